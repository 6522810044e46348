"""Kernel ridge regression from weights to images: a reconstructor that is solved for instead of trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privsweep.interface.randomness import Rng
from privsweep.weight_inversion.shadow_weights import ShadowWeights
from privsweep.weight_inversion.standardisation import Standardisation

RIDGES = (0.001, 0.01, 0.1, 1.0)  # of which one is chosen; the kernel's diagonal is one
_HELD = 5  # one shadow in so many is held back for that choice
_AT_ONCE = 1024  # shadows


class KernelRidge(nn.Module):
    """``[n, numbers] -> [n, *shape]`` in [0, 1]: the mean image, and what each shadow's likeness adds to it.

    Likeness is Gaussian, ``exp(-d / 2)``, with ``d`` the squared distance of standardised weights over their mean
    squared length. Half and twice that served held-back shadows less, on MNIST with 250 to 2,000 of them.
    """

    rows: Tensor  # [K, numbers] the shadows' weights, standardised
    coefficients: Tensor  # [K, pixels]
    mean: Tensor  # [pixels]
    length: Tensor  # [] mean square of the length of a row

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.shape = tuple(shape)
        for name in ("rows", "coefficients", "mean", "length"):  # what is solved for takes their place
            self.register_buffer(name, torch.empty(0))

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.mean + _likeness(x, self.rows.double(), self.length).to(self.coefficients) @ self.coefficients
        return pixels.clamp(0, 1).unflatten(1, self.shape)


def bytes_of(shadows: int, numbers: int, pixels: int) -> int:
    """What solving for one takes: rows, in float64 too, the kernel, a damped copy with its factor, and the images."""
    return shadows * (12 * numbers + 24 * shadows + 24 * pixels)


def solve_kernel(shadows: ShadowWeights, usable: Tensor, standardise: Standardisation, rng: Rng) -> KernelRidge:
    """From the shadows that are ``usable``, bool ``[K]``; the ridge is what serves best those of them held back."""
    order = usable.nonzero().flatten()
    order = order[rng.child("held back").permutation(len(order))]
    taken = [shadows.take(part) for part in order.split(_AT_ONCE)]
    rows = torch.cat([standardise(weights) for weights, _ in taken])
    pixels = torch.cat([pixels for _, pixels in taken])
    flat = pixels.flatten(1).double()
    length = rows.square().sum(1).mean().clamp_min(torch.finfo(rows.dtype).tiny)
    exact = rows.double()
    kernel = torch.cat([_likeness(part, exact, length) for part in exact.split(_AT_ONCE)])
    held = len(order) // _HELD
    best = min(RIDGES, key=lambda ridge: _error(kernel, flat, held, ridge)) if held else max(RIDGES)
    coefficients, mean = _solved(kernel, flat, best)
    net = KernelRidge(pixels.shape[1:])
    net.rows, net.coefficients, net.mean, net.length = rows, coefficients.float(), mean.float(), length
    return net


def _likeness(x: Tensor, rows: Tensor, length: Tensor) -> Tensor:
    """``[n, K]``, of float64 ``rows``, for the distance of alike rows is a difference of large numbers."""
    asked = x.double()
    apart = asked.square().sum(1)[:, None] + rows.square().sum(1) - 2 * asked @ rows.mT
    return apart.clamp_min_(0).div_(-2 * length.double()).exp_()


def _solved(kernel: Tensor, flat: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Coefficients ``[K, pixels]``, and the mean that they add to."""
    mean = flat.mean(0)
    damped = kernel.clone()
    damped.diagonal().add_(ridge)
    return torch.cholesky_solve(flat - mean, torch.linalg.cholesky(damped)), mean


def _error(kernel: Tensor, flat: Tensor, held: int, ridge: float) -> float:
    """The mean squared error of the first ``held`` images, as the others answer."""
    coefficients, mean = _solved(kernel[held:, held:], flat[held:], ridge)
    return float(((kernel[:held, held:] @ coefficients + mean).clamp(0, 1) - flat[:held]).square().mean())
