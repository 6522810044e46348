"""The images of a run: originals, and what the attack made of them."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from privsweep.store.spoilt import say

FILE = "images.npz"
Array = np.ndarray[Any, Any]


def save_images(folder: Path, originals: Array, reconstructions: Array, answers: Mapping[str, Array]) -> None:
    """All ``[V, N, C, H, W]`` in [0, 1], in matched order, kept as uint8 under these names.

    answers: further ones of the same originals, by name.
    """
    named = {f"reconstructions_{name}": _bytes(pixels) for name, pixels in answers.items()}
    with (folder / FILE).open("wb") as file:
        arrays = {"originals": _bytes(originals), "reconstructions": _bytes(reconstructions), **named}
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def load_images(folder: Path, answer: str | None = None) -> tuple[Array, Array] | None:
    """Originals and reconstructions, uint8 ``[V, N, C, H, W]``; None where the run kept none, or they are spoilt.

    answer: one of several, by name; None: that which the attack stands by.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    name = "reconstructions" if answer is None else f"reconstructions_{answer}"
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return (file["originals"], file[name]) if name in file else None
    except (OSError, ValueError, LookupError, EOFError, BadZipFile, zlib.error) as error:
        say(f"{path}: cannot be read ({error}); left out")
        return None


def _bytes(pixels: Array) -> Array:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
