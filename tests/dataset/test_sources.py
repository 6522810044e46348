"""Tiny files in the publishers' own formats, taken through the real loaders from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import io
import pickle
import struct
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from privsweep.dataset.download import prepared
from privsweep.dataset.npz_format import validated
from privsweep.dataset.sources import BY_HAND, OFFICIAL
from privsweep.interface.errors import UserError


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx(array: np.ndarray) -> bytes:
    """LeCun's format: two zeros, the type (8: unsigned byte), the number of axes, their lengths, the values."""
    return gzip.compress(struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@dataclass(frozen=True)
class Site:
    """A publisher's server: what lies in ``folder`` is found under ``url``."""

    folder: Path
    url: str

    def put(self, name: str, content: bytes) -> tuple[str, str]:
        """The address and the MD5 of a new file."""
        (self.folder / name).write_bytes(content)
        return self.url + name, md5(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Site(folder, f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()


@pytest.fixture
def into(tmp_path: Path) -> Path:
    folder = tmp_path / "into"
    folder.mkdir()
    return folder


@pytest.mark.parametrize(("name", "cls"), [("mnist", datasets.MNIST), ("fashion_mnist", datasets.FashionMNIST)])
def test_idx_files(site, into, monkeypatch, members, name, cls):
    wanted = members(size=(28, 28))
    published = {
        "train-images-idx3-ubyte.gz": wanted["train_images"],
        "train-labels-idx1-ubyte.gz": wanted["train_labels"][:, 0],
        "t10k-images-idx3-ubyte.gz": wanted["test_images"],
        "t10k-labels-idx1-ubyte.gz": wanted["test_labels"][:, 0],
    }
    sums = [(file, site.put(file, idx(array))[1]) for file, array in published.items()]
    monkeypatch.setattr(cls, "mirrors", [site.url])
    monkeypatch.setattr(cls, "resources", sums)
    got = OFFICIAL[name].load(into)
    assert got.keys() == wanted.keys()
    for key, array in got.items():
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, wanted[key])


def test_emnist_letters_are_upright_and_count_from_zero(site, into, monkeypatch):
    upright = np.zeros((26, 28, 28), dtype=np.uint8)
    upright[:, 4:24, 6] = 255  # an L: a long stroke down the left,
    upright[:, 23, 6:16] = 255  # a short one to the right at its foot
    lying = upright.transpose(0, 2, 1)  # published column by column
    numbers = np.arange(1, 27, dtype=np.uint8)
    with zipfile.ZipFile(content := io.BytesIO(), "w") as archive:
        for split in ("train", "test"):
            archive.writestr(f"gzip/emnist-letters-{split}-images-idx3-ubyte.gz", idx(lying))
            archive.writestr(f"gzip/emnist-letters-{split}-labels-idx1-ubyte.gz", idx(numbers))
    url, sum_ = site.put("gzip.zip", content.getvalue())
    monkeypatch.setattr(datasets.EMNIST, "url", url)
    monkeypatch.setattr(datasets.EMNIST, "md5", sum_)
    got = OFFICIAL["emnist"].load(into)
    np.testing.assert_array_equal(got["train_images"], upright)
    np.testing.assert_array_equal(got["test_images"], upright)
    assert got["train_labels"][:, 0].tolist() == list(range(26))
    assert validated(got, "emnist").classes == 26


def _cifar(site: Site, monkeypatch, cls, batches: dict[str, dict], meta: dict) -> None:
    contents = {name: pickle.dumps(batch, 2) for name, batch in batches.items()}
    contents[cls.meta["filename"]] = pickle.dumps(meta, 2)
    with tarfile.open(fileobj=(packed := io.BytesIO()), mode="w:gz") as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(f"{cls.base_folder}/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    sums = [[name, md5(contents[name])] for name in batches]
    url, sum_ = site.put(cls.filename, packed.getvalue())
    monkeypatch.setattr(cls, "url", url)
    monkeypatch.setattr(cls, "tgz_md5", sum_)
    monkeypatch.setattr(cls, "train_list", sums[:-1])
    monkeypatch.setattr(cls, "test_list", sums[-1:])
    monkeypatch.setattr(cls, "meta", {**cls.meta, "md5": md5(contents[cls.meta["filename"]])})


def _planes(images: np.ndarray) -> np.ndarray:
    """A row an image: all red, then all green, then all blue values."""
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tarfile, within torchvision
def test_cifar10_batches(site, into, monkeypatch, members):
    wanted = members(train=20, test=10, classes=10, size=(32, 32, 3))
    images, labels = _planes(wanted["train_images"]), wanted["train_labels"][:, 0].tolist()
    batches = {f"data_batch_{k + 1}": {"data": images[k * 10 :][:10], "labels": labels[k * 10 :][:10]} for k in (0, 1)}
    batches["test_batch"] = {"data": _planes(wanted["test_images"]), "labels": wanted["test_labels"][:, 0].tolist()}
    _cifar(site, monkeypatch, datasets.CIFAR10, batches, {"label_names": list("abcdefghij")})
    got = OFFICIAL["cifar10"].load(into)
    for key, array in wanted.items():
        np.testing.assert_array_equal(got[key], array)
        assert got[key].dtype == np.uint8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cifar100_has_the_fine_labels(site, into, monkeypatch, members):
    wanted = members(train=100, test=100, classes=100, size=(32, 32, 3))
    batches = {
        split: {
            "data": _planes(wanted[f"{split}_images"]),
            "fine_labels": wanted[f"{split}_labels"][:, 0].tolist(),
            "coarse_labels": [0] * 100,
        }
        for split in ("train", "test")
    }
    _cifar(site, monkeypatch, datasets.CIFAR100, batches, {"fine_label_names": [str(k) for k in range(100)]})
    got = OFFICIAL["cifar100"].load(into)
    for key, array in wanted.items():
        np.testing.assert_array_equal(got[key], array)


@pytest.mark.parametrize(
    ("name", "size", "labels"),
    [
        ("pneumoniamnist", (28, 28), 1),
        ("dermamnist", (28, 28, 3), 1),
        ("pathmnist", (28, 28, 3), 1),
        ("chestmnist", (28, 28), 14),
        ("pneumoniamnist_64", (64, 64), 1),
        ("dermamnist_224", (224, 224, 3), 1),
    ],
)
def test_medmnist_archives(site, into, monkeypatch, members, name, size, labels):
    from medmnist.info import INFO

    flag, _, larger = name.partition("_")
    suffix = f"_{larger}" if larger else ""
    published = members(size=size, classes=2)
    published["val_images"], published["val_labels"] = published["test_images"], published["test_labels"]
    if labels > 1:
        for key in ("train_labels", "val_labels", "test_labels"):
            published[key] = published[key].repeat(labels, 1)
    np.savez_compressed(packed := io.BytesIO(), **published)
    url, sum_ = site.put(f"{name}.npz", packed.getvalue())
    monkeypatch.setitem(INFO, flag, {**INFO[flag], f"url{suffix}": url, f"MD5{suffix}": sum_})
    got = OFFICIAL[name].load(into)
    assert got.keys() == published.keys()
    for key, array in published.items():
        np.testing.assert_array_equal(got[key], array)
    assert validated(got, name).multilabel == (labels > 1)


def test_a_file_that_is_not_the_publishers_is_refused(site, into, monkeypatch, members):
    """From the front door: torchvision compares the MD5, and nothing is left."""
    from medmnist.info import INFO

    np.savez(packed := io.BytesIO(), **members())
    url, _ = site.put("pneumoniamnist.npz", packed.getvalue())
    monkeypatch.setitem(INFO, "pneumoniamnist", {**INFO["pneumoniamnist"], "url": url})
    with pytest.raises(UserError, match=r"the download failed \(File not found or corrupted\); run"):
        prepared("pneumoniamnist", into)
    assert not list(into.iterdir())


def test_a_file_that_is_gone_is_told_by_its_answer(site, into, monkeypatch):
    monkeypatch.setattr(datasets.CIFAR10, "url", site.url + "moved.tar.gz")
    with pytest.raises(UserError, match=r"the download failed \(HTTP Error 404: File not found\); run"):
        prepared("cifar10", into)
    assert not list(into.iterdir())


def test_every_publisher_has_an_address():
    for name, source in OFFICIAL.items():
        urls = source.urls()
        assert urls, name
        assert all(url.startswith(("http://", "https://")) for url in urls), name
    assert not set(OFFICIAL) & set(BY_HAND)
