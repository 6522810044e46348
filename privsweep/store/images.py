"""The images of a run: originals, and what the attack made of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

FILE = "images.npz"
Array = np.ndarray[Any, Any]
_LARGEST = 1 << 22  # bytes of one image that is read for a preview


def save_images(folder: Path, originals: Array, reconstructions: Array, answers: Mapping[str, Array]) -> None:
    """All ``[V, N, C, H, W]`` in [0, 1], in matched order, kept as uint8 under these names.

    answers: further ones of the same originals, by name.
    """
    named = {f"reconstructions_{name}": _bytes(pixels) for name, pixels in answers.items()}
    with (folder / FILE).open("wb") as file:
        arrays = {"originals": _bytes(originals), "reconstructions": _bytes(reconstructions), **named}
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_images(folder: Path, answer: str | None = None) -> tuple[Array, Array] | None:
    """Originals and reconstructions, uint8 ``[V, N, C, H, W]``; None where the run kept none.

    answer: one of several, by name; None: that which the attack stands by.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        name = "reconstructions" if answer is None else f"reconstructions_{answer}"
        return (file["originals"], file[name]) if name in file else None


def first_images(folder: Path, most: int) -> tuple[Array, Array] | None:
    """The first ``most`` originals and what the attack made of them, uint8 ``[most, C, H, W]``.

    The rest of the file is not read. None where there are no images, or none that can be read.
    """
    spoilt = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
    try:
        with zipfile.ZipFile(folder / FILE) as file:
            originals, made = (_first(file, f"{name}.npy", most) for name in ("originals", "reconstructions"))
    except spoilt:
        return None
    return (originals, made) if originals.shape == made.shape else None


def _first(file: zipfile.ZipFile, name: str, most: int) -> Array:
    with file.open(name) as member:
        if npy.read_magic(member) != (1, 0):
            raise ValueError(f"{name}: of another version")
        shape, fortran, dtype = npy.read_array_header_1_0(member)
        if dtype != np.uint8 or fortran or len(shape) != 5:
            raise ValueError(f"{name}: no images")
        victims, behind, *image = shape
        size, count = int(np.prod(image)), min(most, victims * behind)
        if not 0 < size <= _LARGEST or count < 1:
            raise ValueError(f"{name}: images of {size} bytes")
        read = member.read(size * count)
    return np.frombuffer(read, np.uint8).reshape(count, *image)


def _bytes(pixels: Array) -> Array:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
