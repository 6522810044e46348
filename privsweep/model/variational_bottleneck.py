"""The layers of PRECODE's variational bottleneck, which the defence inserts and gradient matching sees through."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from privsweep.model.stochastic import Stochastic


class Bottleneck(Stochastic):
    """Features ``[B, n]`` to decoded ones beside the divergence in bits, ``[B, n + 1]``; noise ``[B, k]``.

    Without noise the code is its mean.
    """

    def __init__(self, features: int, k: int):
        super().__init__(k)
        self.encoder = nn.Linear(features, 2 * k)
        self.decoder = nn.Linear(k, features)

    def forward(self, x: Tensor) -> Tensor:
        mu, raw = self.encoder(x).chunk(2, -1)
        sigma = softplus(raw)
        # softplus underflows where a diverging attack looks, and the logarithm must stay finite there
        log_sigma = sigma.clamp_min(torch.finfo(sigma.dtype).tiny).log()
        nats = -0.5 * (1 + 2 * log_sigma - mu.square() - sigma.square()).sum(-1, keepdim=True)
        return torch.cat((self.decoder(mu + sigma * self.noise), nats / math.log(2)), -1)


class Output(nn.Module):
    """A linear layer that hands on the last column as it is; not an ``nn.Linear``, whose rules do not hold."""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((linear(x[..., :-1], self.weight, self.bias), x[..., -1:]), -1)
