"""The first images of a run, read without the rest."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy

from privsweep.store.images import FILE, first_images, load_images, save_images


def test_the_first_are_those_of_the_whole_file(tmp_path: Path) -> None:
    both = np.random.default_rng(0).random((2, 3, 2, 3, 4, 5))
    save_images(tmp_path, *both, {})
    whole, first = load_images(tmp_path), first_images(tmp_path, 4)
    assert whole
    assert first
    for all_of_them, some in zip(whole, first, strict=True):
        assert all_of_them is not None
        assert (all_of_them.reshape(6, 3, 4, 5)[:4] == some).all()
    assert len((first_images(tmp_path, 99) or ([],))[0]) == 6


def test_where_nobody_has_the_originals_there_are_reconstructions(tmp_path: Path) -> None:
    made = np.random.default_rng(0).random((2, 1, 3, 4, 5))
    save_images(tmp_path, None, made, {})
    whole, first = load_images(tmp_path), first_images(tmp_path, 4)
    assert whole
    assert whole[0] is None
    assert first
    assert [images.shape for images in first] == [(2, 3, 4, 5)]


@pytest.mark.parametrize(
    ("shape", "dtype", "body"),
    [
        ((1, 1, 1, 10**6, 10**6), "u1", b"x"),
        ((10**12, 1, 1, 2, 2), "u1", b"x"),
        ((1, 1, 1, 2, 2), "O", b"\x80\x04."),
        ((1, 1, 1, 2, 2), "f8", 32 * b"x"),
        ((1, 0, 1, 2, 2), "u1", b""),
        ((2, 2), "u1", b"xxxx"),
    ],
    ids=["huge images", "too many", "objects", "floats", "none", "flat"],
)
def test_what_is_no_images_is_none(tmp_path: Path, shape: tuple[int, ...], dtype: str, body: bytes) -> None:
    out = io.BytesIO()
    npy.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": np.dtype(dtype).str})
    with zipfile.ZipFile(tmp_path / FILE, "w") as file:
        for name in ("originals", "reconstructions"):
            file.writestr(f"{name}.npy", out.getvalue() + body)
    assert first_images(tmp_path, 4) is None
    (tmp_path / FILE).write_bytes(b"PK\x03\x04")
    assert first_images(tmp_path, 4) is None
