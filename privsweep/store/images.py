"""The images of a run: originals, and what the attack made of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FILE = "images.npz"
Array = np.ndarray[Any, Any]


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
    """Originals, None where nobody has them, and reconstructions, uint8 ``[V, N, C, H, W]``; None: the run kept none.

    answer: one of several, by name; None: that which the attack stands by.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        name = "reconstructions" if answer is None else f"reconstructions_{answer}"
        return (file.get("originals"), file[name]) if name in file else None


def _bytes(pixels: Array) -> Array:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
