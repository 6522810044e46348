from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from privsweep.dataset.npz_format import held_out, npz_checksum, read, validated, write
from privsweep.interface.errors import UserError


def test_written_members_are_read_back(npz, members):
    got = read(npz(), "tiny")
    wanted = members()
    assert got.train_images.shape == (40, 6, 6, 1)
    np.testing.assert_array_equal(got.test_images[..., 0], wanted["test_images"])
    np.testing.assert_array_equal(got.train_labels, wanted["train_labels"][:, 0])
    assert got.train_labels.dtype == np.int64
    assert (got.classes, got.multilabel) == (4, False)


def test_colour_images_keep_three_channels_last(members):
    assert validated(members(size=(6, 5, 3)), "tiny").train_images.shape == (40, 6, 5, 3)


def test_several_columns_of_labels_are_multilabel(members):
    values = members()
    values["train_labels"] = np.eye(14, dtype=np.uint8)[np.arange(40) % 14]
    values["test_labels"] = np.zeros((12, 14), dtype=np.uint8)
    got = validated(values, "tiny")
    assert (got.classes, got.multilabel, got.train_labels.shape) == (14, True, (40, 14))


def test_a_validation_split_is_not_looked_at(members):
    assert validated({**members(), "val_images": np.array(["no image"])}, "tiny").classes == 4


def drop(name):
    return lambda m: m.pop(name)


def put(name, change):
    return lambda m: m.update({name: change(m[name])})


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop("train_labels"), "train_labels missing"),
        (put("train_images", lambda a: a / 255), "train_images are float64; store pixels as uint8"),
        (put("test_images", lambda a: a[0]), r"test_images have the shape \[6, 6\]; store \[N,H,W\]"),
        (put("train_images", lambda a: a[..., None].repeat(4, -1)), r"shape \[40, 6, 6, 4\]"),
        (put("test_images", lambda a: a[:0]), r"shape \[0, 6, 6, 1\]"),
        (put("train_labels", lambda a: a * 0.5), "train_labels are float64; store class numbers"),
        (put("train_labels", lambda a: a[:7]), "train_images are 40, train_labels 7"),
        (put("train_labels", lambda a: a + 1), "no image has label 0, the largest is 4"),
        (put("train_labels", lambda a: np.where(a == 2, 9, a)), "no image has label 2, the largest is 9"),
        (put("train_labels", lambda a: a.astype(int) - 1), "-1 is below 0"),
        (put("test_labels", lambda a: a + 5), "test_labels have 5, which no training image has"),
        (put("test_images", lambda a: a[:, 1:]), "train_images are 6x6x1, test_images 5x6x1"),
        (put("test_labels", lambda a: a.repeat(2, 1)), "different numbers of columns"),
        (
            lambda m: m.update({k: m[k].repeat(2, 1) for k in ("train_labels", "test_labels")}),
            "several columns must be 0 or 1",
        ),
    ],
)
def test_what_breaks_the_format_is_named(members, spoil, says):
    values = members()
    spoil(values)
    with pytest.raises(UserError, match=f"^tiny: .*{says}") as error:
        validated(values, "tiny")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x03\x04 torn"])
def test_a_file_that_is_no_archive_is_refused(tmp_path, content):
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    for use in (read, npz_checksum):
        with pytest.raises(UserError, match=r"^here: cannot be read as \.npz"):
            use(path, "here")


def test_a_single_array_is_refused(tmp_path):
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UserError, match=r"^here: "):
        read(tmp_path / "x.npz", "here")


def test_damaged_pixels_are_noticed(npz):
    path = npz()
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be read"):
        read(path, "here")


def test_nothing_is_unpickled(tmp_path, members):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.savez(tmp_path / "x.npz", **{**members(), "train_labels": np.array([Trap()] * 40, dtype=object)})
    with pytest.raises(UserError, match="cannot be read"):
        read(tmp_path / "x.npz", "here")
    assert not (tmp_path / "sprung").exists()


def test_a_broken_off_write_leaves_the_old_file_and_no_other(npz, tmp_path):
    path = npz()
    before = path.read_bytes()

    class Full:
        def __array__(self, *_, **__):
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space"):
        write(path, {"train_images": np.zeros(9), "train_labels": Full()})  # type: ignore[dict-item]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_checksum_is_of_contents_alone(npz, tmp_path, members):
    path = npz()
    first = npz_checksum(path, "x")
    (tmp_path / "other").mkdir()
    moved = path.rename(tmp_path / "other" / "renamed.npz")
    assert npz_checksum(moved, "x") == first
    with zipfile.ZipFile(moved) as archive, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as smaller:
        for name in reversed(archive.namelist()):
            smaller.writestr(name, archive.read(name))
    assert path.stat().st_size != moved.stat().st_size
    assert npz_checksum(path, "x") == first


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
def test_the_checksum_changes_with_one_byte(npz, members, name):
    first = npz_checksum(npz(), "x")
    values = members()
    values[name].flat[0] ^= 1
    assert npz_checksum(npz(values), "x") != first


def test_held_out_is_a_fifth_and_always_the_same():
    mask = held_out(50, 0.2, "a")
    assert mask.sum() == 10
    np.testing.assert_array_equal(mask, held_out(50, 0.2, "a"))
    assert (mask != held_out(50, 0.2, "b")).any()
    assert held_out(1, 0.9).sum() == 0, "a lone image trains"
