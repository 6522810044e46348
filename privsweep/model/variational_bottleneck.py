"""PRECODE's variational bottleneck: features replaced by a decoded random code."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from privsweep.model.stochastic import Reparametrised

_NATS = math.log(2)  # in a bit


class Bottleneck(Reparametrised):
    """Features ``[B, n]`` to decoded ones beside the divergence in bits, ``[B, n + 1]``; noise ``[B, k]``.

    Without noise the code is its mean.
    """

    encoder: nn.Linear
    decoder: nn.Linear

    def __init__(self, features: int, k: int):
        super().__init__(k)
        self.encoder = nn.Linear(features, 2 * k)
        self.decoder = nn.Linear(k, features)

    def deviation(self, raw: Tensor) -> Tensor:
        return softplus(raw)

    def deviation_derivatives(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        first = torch.sigmoid(raw)
        return first, first * (1 - first)

    def term_derivatives(self, encoded: Tensor) -> tuple[Tensor, Tensor]:
        mu, raw = encoded.chunk(2, -1)
        sigma = self.deviation(raw)
        first, second = self.deviation_derivatives(raw)
        # Shares of the deviation, which are at most one where its square underflows; none where the logarithm is cut.
        own = sigma >= torch.finfo(sigma.dtype).tiny
        share, bend = (torch.where(own, d / sigma, 0) for d in (first, second))
        by_raw = sigma * first - share
        again = first.square() + sigma * second - bend + share.square()
        return torch.cat((mu, by_raw), -1) / _NATS, torch.cat((torch.ones_like(mu), again), -1) / _NATS

    def forward(self, x: Tensor) -> Tensor:
        mu, raw = self.encoder(x).chunk(2, -1)
        sigma = self.deviation(raw)
        # softplus underflows where a diverging attack looks, and the logarithm must stay finite there
        log_sigma = sigma.clamp_min(torch.finfo(sigma.dtype).tiny).log()
        nats = -0.5 * (1 + 2 * log_sigma - mu.square() - sigma.square()).sum(-1, keepdim=True)
        return torch.cat((self.decoder(mu + sigma * self.noise), nats / _NATS), -1)
