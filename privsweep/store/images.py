"""The images of a run: originals, and what the attack made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FILE = "images.npz"
Array = np.ndarray[Any, Any]


def save_images(folder: Path, originals: Array, reconstructions: Array) -> None:
    """Both ``[V, N, C, H, W]`` in [0, 1], in matched order, kept as uint8 under these names."""
    with (folder / FILE).open("wb") as file:
        np.savez_compressed(file, originals=_bytes(originals), reconstructions=_bytes(reconstructions))


def load_images(folder: Path) -> tuple[Array, Array] | None:
    """Originals and reconstructions, uint8 ``[V, N, C, H, W]``; None where the run kept none."""
    path = folder / FILE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as file:
        return file["originals"], file["reconstructions"]


def _bytes(pixels: Array) -> Array:
    return np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
