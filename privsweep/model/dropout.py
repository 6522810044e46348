"""Dropout as a stochastic layer: seeded by the caller, and stackable."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import Tensor

from privsweep.model.stochastic import Stochastic


class Dropout(Stochastic):
    """In training drops each of an example's inputs with probability ``p`` and scales the rest by ``1 / (1 - p)``.

    An input is kept where its noise lies above the normal distribution's quantile of ``p``. The identity in
    evaluation, and without noise. ``features``: how many inputs an example has, or the shape of its noise; inputs that
    share a number are dropped together.
    """

    def __init__(self, features: int | tuple[int, ...], p: float):
        super().__init__(*((features,) if isinstance(features, int) else features))
        self.p = p
        self.quantile = NormalDist().inv_cdf(p) if p else -math.inf

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.noise.shape == self.noise_shape:
            return x
        return torch.where(self.noise > self.quantile, x / (1 - self.p), 0.0)

    def extra_repr(self) -> str:
        return f"p={self.p}"
