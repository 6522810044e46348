"""What a paper may have meant by SSIM: several measures of that name, of the pictures that runs have stored.

    python scripts/ssim_measures.py outputs/runs/0123456789ab outputs/runs/...

One line for each run: its PSNR, then the mean over its victims of every measure. Zen prints an SSIM of 0.13 beside a
PSNR of 22.1 dB, where the usual SSIM is far higher.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

Measure = Callable[[Tensor, Tensor], Tensor]  # [V, C, H, W] from 0 to 1, twice -> [V]


def windowed(scale: float, data_range: float, **options: int | float | bool) -> Measure:
    """Wang et al. (2004) on pixels from 0 to ``scale`` that are taken to span ``data_range``."""

    def measure(guess: Tensor, truth: Tensor) -> Tensor:
        made = structural_similarity_index_measure(
            guess * scale, truth * scale, data_range=data_range, reduction="none", **options
        )  # type: ignore[arg-type]
        assert isinstance(made, Tensor)
        return made

    return measure


def whole(scale: float, data_range: float) -> Measure:
    """Means, variances and covariance of the whole image: no window slides."""

    def measure(guess: Tensor, truth: Tensor) -> Tensor:
        x, y = (part.flatten(1) * scale for part in (guess, truth))
        low, high = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        a, b = x.mean(1), y.mean(1)
        between = ((x - a[:, None]) * (y - b[:, None])).mean(1)
        shades = (2 * a * b + low) / (a**2 + b**2 + low)
        return shades * (2 * between + high) / (x.var(1, correction=0) + y.var(1, correction=0) + high)

    return measure


def grey(measure: Measure) -> Measure:
    return lambda guess, truth: measure(guess.mean(1, keepdim=True), truth.mean(1, keepdim=True))


MEASURES: dict[str, Measure] = {
    "usual (Gaussian window of 11)": windowed(1.0, 1.0),
    "mean window of 7": windowed(1.0, 1.0, gaussian_kernel=False, kernel_size=7),
    "range 2": windowed(1.0, 2.0),
    "without a window": whole(1.0, 1.0),
    "grey, without a window": grey(whole(1.0, 1.0)),
    "pixels to 255, range 1": windowed(255.0, 1.0),
    "pixels to 255, range 1, without a window": whole(255.0, 1.0),
    "pixels to 1, range 255": windowed(1.0, 255.0),
}


def measured(folder: Path) -> dict[str, float]:
    """PSNR in dB (mean over victims) and every measure of a run's pictures. Raises OSError where it has none."""
    with np.load(folder / "images.npz", allow_pickle=False) as images:
        guess, truth = (torch.from_numpy(images[name]).double().flatten(0, 1) / 255 for name in _NAMES)
    errors = (guess - truth).flatten(1).pow(2).mean(1).clamp_min(1e-10)
    values = {name: float(measure(guess, truth).mean()) for name, measure in MEASURES.items()}
    return {"PSNR": float((-10 * errors.log10()).mean()), **values}


_NAMES = ("reconstructions", "originals")


def main(folders: Sequence[str]) -> int:
    if not folders:
        print(__doc__)
        return 2
    for folder in map(Path, folders):
        print(folder.name, *(f"{name}: {value:.3f}" for name, value in measured(folder).items()), sep="; ")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
