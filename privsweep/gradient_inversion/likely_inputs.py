"""What a chain of convolutions is given of an image that nothing is known of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor
from torch.func import functional_call

from privsweep.interface.data import Domain, Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.convolution_chain import Convolution, ConvolutionChain

_PROBES = 512  # random pictures
_NEIGHBOURS, _CHANNELS = 0.95, 0.9  # correlations of pixels side by side, and of an image's colours
_LEAST = 1e-12  # of a variance


@dataclass(frozen=True)
class Likely:
    """What a layer is given of an image that nothing is known of, ``[...]``."""

    mean: Tensor
    variance: Tensor
    precision: Tensor  # [n, n], the inverse of the covariance


def likely_inputs(chain: ConvolutionChain, weights: Tensors, domain: Domain, rng: Rng) -> list[Likely]:
    """What each convolution is given of pictures: grey on the mean, and neighbours and channels alike."""
    device = weights[f"{chain.dense}.weight"].device
    channels, height, width = domain.shape
    low, high = (bound.double().to(device) for bound in domain.box(device))
    mean, deviation = ((low + high) / 2).expand(domain.shape), (high - low).expand(domain.shape) / 12**0.5
    alike = torch.full((channels, channels), _CHANNELS, dtype=mean.dtype, device=device).fill_diagonal_(1)
    along = [
        _NEIGHBOURS ** (at[:, None] - at).abs() for at in (torch.arange(s, device=device) for s in (height, width))
    ]
    parts = [alike, *(part.to(mean) for part in along)]
    scale = deviation.flatten()
    inverse = _product(torch.cholesky_inverse(torch.linalg.cholesky(part)) for part in parts) / (scale[:, None] * scale)
    found = [Likely(mean, deviation.square(), inverse)]
    drawn = torch.randn(_PROBES, channels, height, width, generator=rng.child("probes").generator()).to(mean)
    one, two, three = (torch.linalg.cholesky(part) for part in parts)
    drawn = torch.einsum("bcij,dc,ki,lj->bdkl", drawn, one, two, three) * deviation + mean
    x = drawn.clamp(low, high).to(weights[f"{chain.dense}.weight"])
    for before in _values(chain.convolutions[:-1], weights, x):
        found.append(_of_probes(before.double()))
    return found


def _of_probes(given: Tensor) -> Likely:
    """Of what a layer is given ``[B, ...]``: half their covariance, half that of independent numbers."""
    apart = given.flatten(1) - given.flatten(1).mean(0)
    covariance = apart.mT @ apart / len(apart)
    variance = covariance.diagonal().clone()
    variance = torch.maximum(variance, variance.mean()).clamp_min(_LEAST)
    covariance = covariance / 2
    covariance.diagonal().copy_(variance)
    return Likely(
        given.mean(0), variance.view(given.shape[1:]), torch.cholesky_inverse(torch.linalg.cholesky(covariance))
    )


def _product(parts: Iterable[Tensor]) -> Tensor:
    """Their Kronecker product."""
    return reduce(torch.kron, (part.contiguous() for part in parts))


def _values(steps: tuple[Convolution, ...], weights: Tensors, x: Tensor) -> Iterator[Tensor]:
    with torch.no_grad():
        for step in steps:
            own = {name: weights[f"{step.name}.{name}"] for name, _ in step.layer.named_parameters()}
            x = step.activation(functional_call(step.layer, own, (x,)))
            yield x
