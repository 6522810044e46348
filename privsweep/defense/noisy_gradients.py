"""Noise on every exchanged gradient: the simplest defence against gradient inversion."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from privsweep.differential_privacy.clipping import noised
from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng


@component
class NoisyGradients(Defense):
    """Adds zero-mean noise to every entry of a gradient, in every training step and to a captured one.

    ``sigma`` is the standard deviation of either distribution (PRECODE, section 4.1, uses Gaussian
    noise with 1e-2 and 1e-3); 0 is no defence. It is no differential privacy: nothing is clipped.
    """

    sigma: Annotated[float, Field(ge=0)]
    distribution: Literal["gaussian", "laplace"]

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        if self.sigma == 0:
            return grad
        if self.distribution == "gaussian":
            return noised(grad, self.sigma, rng)
        generator = rng.generator(next(iter(grad.values())).device)
        return {name: g + self._laplace(g, generator) for name, g in grad.items()}

    def gradient_noise(self, expected_batch: int) -> float:
        return self.sigma

    def _laplace(self, like: Tensor, generator: torch.Generator) -> Tensor:
        # In the order of the axes, whatever the layout in memory. A Laplace draw is the difference of two exponential
        # ones; its variance is twice the squared rate.
        one, other = (torch.empty_like(like, memory_format=torch.contiguous_format) for _ in range(2))
        other.exponential_(1, generator=generator)
        return one.exponential_(1, generator=generator).sub_(other).mul_(self.sigma / 2**0.5)
