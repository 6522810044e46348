from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from privsweep.dataset.folder import Folder
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng


def paint(file: Path, seed: int = 0, size: tuple[int, ...] = (6, 6), kind: type = np.uint8) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, size).astype(kind)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
    return pixels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of ten grey images."""
    folder = tmp_path / "images"
    for k, name in enumerate(("cat", "dog")):
        for i in range(10):
            paint(folder / name / f"{i}.png", 10 * k + i)
    return folder


@pytest.fixture
def dataset(root, plain):
    def make(path: Path = root, **fields) -> Folder:
        return Folder(path=path, **{"test_fraction": 0.2, **plain, **fields})

    return make


def rows(split) -> set[bytes]:
    return {image.numpy().tobytes() for image in split.images}


def test_every_class_is_split_alike_and_by_no_seed(dataset):
    data, other = dataset().load(Rng(0)), dataset().load(Rng(5))
    assert (data.name, data.domain.shape, data.domain.classes) == ("folder", (1, 6, 6), 2)
    assert data.train.labels.bincount().tolist() == [8, 8]
    assert data.test.labels.bincount().tolist() == [2, 2]
    assert rows(data.test) == rows(other.test)
    assert not rows(data.test) & rows(data.train)


def test_own_train_and_test_folders(tmp_path, dataset):
    for split, n in (("train", 3), ("test", 2), ("val", 1)):
        for name in ("a", "b"):
            for i in range(n):
                paint(tmp_path / "split" / split / name / f"{i}.png", i)
    data = dataset(tmp_path / "split").load(Rng(0))
    assert (len(data.train), len(data.test)) == (6, 4)


def test_pixels_arrive_unchanged(tmp_path, dataset):
    wanted = [paint(tmp_path / "x" / split / c / "0.png", 5, (4, 7, 3)) for split in ("train", "test") for c in "ab"]
    data = dataset(tmp_path / "x").load(Rng(0))
    np.testing.assert_array_equal(data.train.images[0].permute(1, 2, 0), wanted[0])
    assert data.train.labels.tolist() == [0, 1]


@pytest.mark.parametrize("exif", [b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", b"no EXIF"])
def test_photographs_are_turned_as_their_exif_tells(exif, tmp_path, dataset):
    for place in ("train/a", "train/b", "test/a"):
        pixels = paint(tmp_path / "x" / place / "0.png", 5, (4, 7))
        Image.fromarray(pixels).save(tmp_path / "x" / place / "0.png", exif=b"Exif\0\0" + exif)
    seen = dataset(tmp_path / "x").load(Rng(0)).train.images[0, 0]
    np.testing.assert_array_equal(seen, pixels if exif == b"no EXIF" else np.rot90(pixels, -1))
    assert dataset(tmp_path / "x").outline(Rng(0)).domain.shape == (1, *seen.shape)


def test_formats_depth_of_folders_and_bystanders(root, dataset):
    paint(root / "cat" / "more" / "a.jpg")
    paint(root / "cat" / "b.BMP")
    (root / "cat" / "notes.txt").write_text("no image")
    (root / "cat" / ".hidden.png").write_text("no image")
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    data = dataset().load(Rng(0))
    assert (len(data.train) + len(data.test), data.domain.classes) == (22, 2)


def test_sizes_that_differ_need_resize(root, dataset):
    paint(root / "dog" / "wide.png", size=(6, 9))
    told = r"^dataset\.path=.*0\.png is 6x6 but .*wide\.png 6x9; set dataset\.resize=32 or"
    with pytest.raises(UserError, match=told):
        dataset().load(Rng(0))
    assert dataset(resize=16).load(Rng(0)).domain.shape == (1, 16, 16)


def test_grey_among_colour_needs_channels(root, dataset):
    paint(root / "dog" / "red.png", size=(6, 6, 3))
    with pytest.raises(UserError, match=r"grey .*\.png but colour .*red\.png; set dataset\.channels=grey or rgb"):
        dataset().load(Rng(0))
    assert dataset(channels="grey").load(Rng(0)).domain.shape == (1, 6, 6)
    assert dataset(channels="rgb").load(Rng(0)).domain.shape == (3, 6, 6)


def test_a_broken_image_is_named(root, dataset):
    (root / "dog" / "torn.png").write_bytes((root / "dog" / "0.png").read_bytes()[:40])
    with pytest.raises(UserError, match=r"torn\.png is no readable image; remove or replace it"):
        dataset().load(Rng(0))


def test_deep_pixels_are_refused_rather_than_clipped(root, dataset):
    paint(root / "dog" / "deep.png", kind=np.uint16)
    with pytest.raises(UserError, match=r"deep\.png has more than 8 bits a pixel; convert"):
        dataset().load(Rng(0))


def test_a_folder_that_is_not_there(tmp_path, dataset):
    with pytest.raises(UserError, match=r"^dataset\.path=.*nowhere: no such folder; set"):
        dataset(tmp_path / "nowhere").load(Rng(0))


def test_one_class_is_none(root, dataset):
    with pytest.raises(UserError, match="0 subfolders with images; give it two or more"):
        dataset(root / "cat").load(Rng(0))
    shutil.rmtree(root / "cat")
    with pytest.raises(UserError, match="1 subfolder with images"):
        dataset().load(Rng(0))


def test_a_class_to_test_that_was_never_trained(tmp_path, dataset):
    for place in ("train/a", "train/b", "test/a", "test/c"):
        paint(tmp_path / "x" / place / "0.png")
    with pytest.raises(UserError, match="class c is in test/ but not in train/"):
        dataset(tmp_path / "x").load(Rng(0))


def test_no_image_to_test(dataset):
    with pytest.raises(UserError, match=r"no test image; raise dataset\.test_fraction"):
        dataset(test_fraction=0.01).load(Rng(0))


def test_of_lone_images_none_is_tested(tmp_path, dataset):
    for name in ("a", "b"):
        paint(tmp_path / "x" / name / "0.png")
    with pytest.raises(UserError, match=r"no test image; add images, two or more of a class"):
        dataset(tmp_path / "x").load(Rng(0))


def test_the_fingerprint_stays_when_the_folder_moves(root, tmp_path, dataset):
    first = dataset().fingerprint()
    moved = root.rename(tmp_path / "elsewhere")
    (moved / "cat" / "notes.txt").write_text("no image")
    assert dataset(moved).fingerprint() == first


def test_the_fingerprint_changes_with_contents_and_names(root, dataset):
    seen = {dataset().fingerprint()}
    paint(root / "cat" / "3.png", 99)
    seen.add(dataset().fingerprint())
    (root / "cat" / "3.png").rename(root / "cat" / "x.png")
    seen.add(dataset().fingerprint())
    (root / "cat" / "x.png").rename(root / "dog" / "x.png")
    seen.add(dataset().fingerprint())
    assert len(seen) == 4


def test_the_state_of_the_files_tells_of_every_change_and_reads_none(root, dataset, monkeypatch):
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("read"))
    seen = {dataset().files().state}
    assert dataset().files().state in seen
    (root / "cat" / "notes.txt").write_text("no image")
    assert dataset().files().state in seen
    os.utime(root / "cat" / "3.png", (1, 1))
    seen.add(dataset().files().state)
    paint(root / "dog" / "new.png", 5)
    seen.add(dataset().files().state)
    (root / "dog" / "new.png").rename(root / "dog" / "newer.png")
    seen.add(dataset().files().state)
    assert len(seen) == 4
    shutil.rmtree(root)
    assert dataset().files().state is None
