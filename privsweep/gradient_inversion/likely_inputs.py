"""What a chain of convolutions is given of an image that nothing is known of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from privsweep.interface.data import Domain, Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.convolution_chain import ConvolutionChain

_PROBES = 512  # random pictures
_NEIGHBOURS, _CHANNELS = 0.95, 0.9  # correlations of pixels side by side, and of an image's colours
_LEAST = 1e-12  # of a variance


@dataclass(frozen=True)
class Likely:
    """What a layer is given of an image that nothing is known of, ``[...]``."""

    mean: Tensor
    variance: Tensor
    precision: Tensor  # [n, n], the inverse of the covariance
    output: Tensor  # what the layer makes of it: mean and variance
    output_variance: Tensor


@dataclass(frozen=True)
class Picture:
    """A random image ``[C, H, W]``: grey on the mean, neighbours and channels alike."""

    mean: Tensor
    deviation: Tensor
    factors: tuple[Tensor, Tensor, Tensor]  # lower triangular, whose squares are the axes' correlations

    def coloured(self, white: Tensor) -> Tensor:
        """Images ``[..., C, H, W]`` of independent standard normal numbers."""
        return self._along(self.factors, white) * self.deviation + self.mean

    def whitened(self, image: Tensor) -> Tensor:
        """What ``coloured`` makes it of."""
        return self._along([torch.linalg.inv(factor) for factor in self.factors], (image - self.mean) / self.deviation)

    @staticmethod
    def _along(matrices: Sequence[Tensor], numbers: Tensor) -> Tensor:
        return torch.einsum("...cij,dc,ki,lj->...dkl", numbers, *matrices)


def likely_picture(domain: Domain, device: torch.device) -> Picture:
    """As far as anything is known of an image: in float64."""
    channels, height, width = domain.shape
    low, high = (bound.double().to(device) for bound in domain.box(device))
    alike = torch.full((channels, channels), _CHANNELS, dtype=low.dtype, device=device).fill_diagonal_(1)
    along = [
        _NEIGHBOURS ** (at[:, None] - at).abs().to(low)
        for at in (torch.arange(s, device=device) for s in (height, width))
    ]
    one, two, three = (torch.linalg.cholesky(part) for part in (alike, *along))
    mean, deviation = ((low + high) / 2).expand(domain.shape), (high - low).expand(domain.shape) / 12**0.5
    return Picture(mean, deviation, (one, two, three))


def likely_inputs(chain: ConvolutionChain, weights: Tensors, domain: Domain, rng: Rng) -> list[Likely]:
    """What each convolution is given of such pictures, of colours that there are."""
    dense = weights[f"{chain.dense}.weight"]
    picture, (low, high) = likely_picture(domain, dense.device), domain.box(dense.device)
    scale = picture.deviation.flatten()
    inverse = reduce(torch.kron, (torch.cholesky_inverse(factor) for factor in picture.factors))
    first = picture.mean, picture.deviation.square(), inverse / (scale[:, None] * scale)
    found: list[Likely] = []
    drawn = torch.randn(_PROBES, *domain.shape, generator=rng.child("probes").generator()).to(picture.mean)
    x = picture.coloured(drawn).clamp(low.double(), high.double()).to(dense)
    with torch.no_grad():
        for before, answer, _ in chain.run(weights, x):
            given, answer = _of_probes(before.double()) if found else first, answer.double()
            variance = answer.var(0)
            variance = torch.maximum(variance, variance.mean()).clamp_min(_LEAST)
            found.append(Likely(*given, answer.mean(0), variance))
    return found


def _of_probes(given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of what a layer is given ``[B, ...]`` the mean, variance and precision.

    By half their covariance, half that of independent numbers.
    """
    apart = given.flatten(1) - given.flatten(1).mean(0)
    covariance = apart.mT @ apart / len(apart)
    variance = covariance.diagonal().clone()
    variance = torch.maximum(variance, variance.mean()).clamp_min(_LEAST)
    covariance = covariance / 2
    covariance.diagonal().copy_(variance)
    precision = torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    return given.mean(0), variance.view(given.shape[1:]), precision
