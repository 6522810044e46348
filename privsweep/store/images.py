"""The images of a run: originals, and what the attack made of them."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from privsweep.store.spoilt import say

FILE = "images.npz"
Array = np.ndarray[Any, Any]
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
_LARGEST = 1 << 22  # bytes of one image that is read for a preview


def save_images(folder: Path, originals: Array | None, reconstructions: Array, answers: Mapping[str, Array]) -> None:
    """All ``[V, N, C, H, W]`` in [0, 1], in matched order, kept as uint8 under these names.

    originals: None where nobody has them.
    answers: further ones of the same originals, by name.
    """
    true = {} if originals is None else {"originals": _bytes(originals)}
    named = {f"reconstructions_{name}": _bytes(pixels) for name, pixels in answers.items()}
    with (folder / FILE).open("wb") as file:
        arrays = {**true, "reconstructions": _bytes(reconstructions), **named}
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_images(folder: Path, answer: str | None = None) -> tuple[Array | None, Array] | None:
    """Originals, None where nobody has them, and reconstructions, uint8 ``[V, N, C, H, W]``.

    None: the run kept none, or none that can be read.

    answer: one of several, by name; None: that which the attack stands by.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    name = "reconstructions" if answer is None else f"reconstructions_{answer}"
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return (file.get("originals"), file[name]) if name in file else None
    except _UNREADABLE as error:
        say(f"{path}: cannot be read ({error}); left out")
        return None


def first_images(folder: Path, most: int) -> list[Array] | None:
    """The first ``most`` originals, if there are any, and what the attack made of them, uint8 ``[most, C, H, W]``.

    The rest of the file is not read. None where there are no images, or none that can be read.
    """
    try:
        with zipfile.ZipFile(folder / FILE) as file:
            names = [name for name in ("originals.npy", "reconstructions.npy") if name in file.namelist()]
            found = [_first(file, name, most) for name in names]
    except _UNREADABLE:
        return None
    alike = len({images.shape for images in found}) == 1
    return found if alike and names[-1] == "reconstructions.npy" else None


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
