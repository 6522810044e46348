"""Pictures inside the page, small: what attacks made of the first images, and the figures of tables."""

from __future__ import annotations

import base64
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from privsweep.store.images import Array, first_images

VICTIMS = 6  # images of a run
_SIDE = 32  # pixels of an image at most
_GAP = 1
_WIDEST = 1400  # pixels of a figure
_LARGEST = 40_000_000  # pixels of a picture that is opened


def preview(folder: Path) -> tuple[str, int, int] | None:
    """The first originals, if any, above their reconstructions as a data URI, its width and its height in pixels.

    None where the run kept no images.
    """
    rows = first_images(folder, VICTIMS)
    if rows is None or rows[0].shape[1] not in (1, 3):
        return None
    strip = Image.fromarray(np.concatenate([_row(images) for images in rows]))
    return _source(strip, quality=72), strip.width, strip.height


def figure(path: Path) -> str | None:
    """A PNG as a data URI, not wider than a screen; None where there is none that can be shown."""
    if not path.is_file() or path.is_symlink():
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as image:
                if image.width * image.height > _LARGEST:
                    return None
                drawn = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError):
        return None
    drawn.thumbnail((_WIDEST, 4 * _WIDEST))
    return _source(drawn, quality=80)


def _row(images: Array) -> Array:
    """``[N, C, H, W]`` side by side with grey between them, ``[H, W, 3]``, each scaled down to fit."""
    tiles = images.transpose(0, 2, 3, 1)
    if max(images.shape[2:]) > _SIDE:
        tiles = np.stack([_reduced(tile) for tile in tiles])
    count, height, width, _ = tiles.shape
    row = np.full((height + _GAP, count, width + _GAP, 3), 128, np.uint8)
    row[:height, :, :width] = tiles.transpose(1, 0, 2, 3)
    return row.reshape(height + _GAP, -1, 3)


def _reduced(tile: Array) -> Array:
    image = Image.fromarray(tile.repeat(3 // tile.shape[2], 2))
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image)


def _source(image: Image.Image, quality: int) -> str:
    out = BytesIO()
    image.save(out, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
