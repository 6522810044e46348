"""The pixel scales on which papers state their metrics.

Every scale takes the reconstruction and the original as ``[0, 1]`` pixels ``[V, N, C, H, W]`` and returns
``mse``, ``psnr`` (dB) and ``ssim``, float64 ``[V, N]`` each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.metric.images import mse, psnr, ssim

Measures = dict[str, Tensor]
Scale = Callable[[Tensor, Tensor, Domain], Measures]


def canonical(guess: Tensor, truth: Tensor, domain: Domain) -> Measures:
    """Pixels from 0 to 1, as they are."""
    return {"mse": mse(guess, truth), "psnr": psnr(guess, truth), "ssim": ssim(guess, truth)}


def zen(guess: Tensor, truth: Tensor, domain: Domain) -> Measures:
    """Pixels from 0 to 255; PSNR and SSIM are the canonical ones, for they scale with the range.

    Zen does not say so, but its MSE and PSNR agree for a peak of 255 (table 4: 397.4 and 22.1 dB).
    """
    values = canonical(guess, truth, domain)
    return {**values, "mse": values["mse"] * 255**2}


def precode(guess: Tensor, truth: Tensor, domain: Domain) -> Measures:
    """Model inputs: normalised by the channels' mean and std. MSE above 1 is possible.

    PSNR: the peak is the range of the original (that of the whole box where the original is one flat value).
    SSIM: with a data range of 2, whatever the true range, and negatives set to 0, as the authors' notebook.
    """
    guess, truth = domain.inputs(guess), domain.inputs(truth)
    span = truth.amax((2, 3, 4)) - truth.amin((2, 3, 4))
    black, white = domain.box(truth.device)
    peak = torch.where(span > 0, span, white.max() - black.min())
    return {
        "mse": mse(guess, truth),
        "psnr": psnr(guess, truth, peak),
        "ssim": ssim(guess, truth, data_range=2.0).clamp(min=0),
    }


SCALES: Mapping[str, Scale] = {"zen": zen, "precode": precode}


def paper(name: str) -> Scale:
    """The scale of that name; UserError for another."""
    if name not in SCALES:
        raise UserError(f"metrics.paper_scale={name}: no such scale; choose one of {', '.join(SCALES)}")
    return SCALES[name]
