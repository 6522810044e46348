"""What only makes sense where the adversary knows every record but one: is its answer better than what it knew?

Pixels are on the scale from 0 to 1. ``V`` victims, ``N`` images of each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from sklearn.metrics import roc_curve
from torch import Tensor

from privsweep.metric.membership import share
from privsweep.metric.names import CONFIDENCE, RATES

SHOWN = 6  # how many are the easiest, and the hardest; fewer than twelve victims are halved
_CHUNK = 2048  # known images at once


def nearest(targets: Tensor, known: Sequence[Tensor]) -> Tensor:
    """The mean squared distance of every target ``[V, N, C, H, W]`` to the nearest known image, float64 ``[V, N]``.

    ``known``: sets of uint8 images ``[n, C, H, W]``, none of which need be copied together. In float64, a slice of them
    at once; the distance to the winner is taken from the difference, so that a target that is known is at exactly 0.

    Raises ValueError where there is no known image.
    """
    flat = targets.flatten(0, 1).flatten(1).double()
    best = flat.new_full((len(flat),), torch.inf)
    winners = torch.empty_like(flat)
    for images in (part for whole in known for part in whole.to(flat.device).split(_CHUNK) if len(part)):
        pixels = images.flatten(1).float().div_(255).double()
        apart, at = (pixels.square().sum(1) - 2 * flat @ pixels.mT).min(1)  # but for the target's own square
        closer = apart < best
        best[closer] = apart[closer]
        winners[closer] = pixels[at[closer]]
    if not best.isfinite().all():
        raise ValueError("there is no known image to be near to")
    return (flat - winners).square().mean(1).view(targets.shape[:2])


def release_columns(mse: Tensor, original: Tensor, nearest: Tensor) -> dict[str, Tensor]:
    """Of every victim, ``[V]``, from its reconstruction's ``mse`` ``[V]``, the originals and ``nearest`` ``[V, N]``.

    ``oracle_mse``: what the best guess among the known images would come to. ``below_oracle``: whether the
    reconstruction is closer. Of the original itself ``total_variation``, the mean absolute step down and the mean
    absolute step right, added, and ``border_variance``, of the pixels along its edge, the mean over channels: both are
    small for simple images on an even background.
    """
    oracle = nearest.double().mean(1).cpu()
    pixels = original.double()
    steps = (pixels.diff(dim=axis).abs().flatten(1) for axis in (3, 4))
    variation = sum((step.mean(1) if step.numel() else step.sum(1) for step in steps), torch.zeros(()))
    inner = torch.ones(pixels.shape[-2:], dtype=torch.bool)
    inner[1:-1, 1:-1] = False
    border = pixels[..., inner].var(3, correction=0).mean((1, 2))
    return {"oracle_mse": oracle, "below_oracle": mse < oracle, "total_variation": variation, "border_variance": border}


def release_metrics(columns: dict[str, Tensor], pixels: Tensor, original: Tensor) -> dict[str, float | None]:
    """Of the whole run, beside the means of the columns.

    ``mse_easiest``, ``mse_hardest``, and the same of ``total_variation`` and ``border_variance``: means over the six
    victims with the least and the greatest ``mse``, with the ends of their 95% interval (Student's t; of two victims
    or more) under ``_low`` and ``_high``.

    A reconstruction ROC: is the answer closer to its own target than a threshold (true positive), and closer than that
    to the other targets (false ones)? ``reconstruction_auc``, ties counting half, and ``tpr_at_1_fpr`` and
    ``tpr_at_01_fpr``, the share of targets that are hit while at most 1% and 0.1% of the others are, with the ends of
    its 95% interval at that threshold under ``_low`` and ``_high``. None for one target alone.
    """
    found: dict[str, float | None] = {}
    order = columns["mse"].argsort(stable=True)
    count = min(SHOWN, max(1, len(order) // 2))
    for name in ("mse", "total_variation", "border_variance"):
        values = columns[name][order].double()
        _mean(found, f"{name}_easiest", values[:count])
        _mean(found, f"{name}_hardest", values[-count:])
    own, others = _distances(pixels, original)
    if not len(others):
        return found | {"reconstruction_auc": None} | dict.fromkeys(RATES)
    below = (np.searchsorted(others, own, "left") + np.searchsorted(others, own, "right")) / 2
    found["reconstruction_auc"] = float(1 - below.mean() / len(others))
    for name, rate in RATES.items():
        share(found, name, int((own < others[int(rate * len(others) + 1e-9)]).sum()), len(own))
    return found


def reconstruction_roc(pixels: Tensor, original: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates over all thresholds, from (0, 0) to (1, 1); images ``[V, N, C, H, W]``, V > 1."""
    own, others = _distances(pixels, original)
    hit = np.r_[np.ones(len(own)), np.zeros(len(others))]
    false, true, _ = roc_curve(hit, -np.r_[own, others])
    return false, true


def _mean(metrics: dict[str, float | None], name: str, values: Tensor) -> None:
    """Adds ``name`` and, with ``_low`` and ``_high``, the ends of its 95% interval."""
    metrics[name] = mean = float(values.mean())
    if len(values) > 1:
        half = float(values.std()) / len(values) ** 0.5 * float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1))
        metrics[f"{name}_low"], metrics[f"{name}_high"] = mean - half, mean + half


def _distances(pixels: Tensor, original: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Mean squared distances of all reconstructions to their own targets, and to all others, sorted."""
    guess, truth = (images.flatten(0, 1).flatten(1).double() for images in (pixels, original))
    squares = guess.square().sum(1)[:, None] + truth.square().sum(1) - 2 * guess @ truth.mT
    table = squares.clamp_(min=0).div_(truth.shape[1]).numpy()
    own = np.eye(len(table), dtype=bool)
    return table[own], np.sort(table[~own])
