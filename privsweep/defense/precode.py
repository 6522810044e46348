"""PRECODE: a variational bottleneck before the output layer."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from privsweep.component import component
from privsweep.errors import UserError
from privsweep.game import Defense, Loss
from privsweep.randomness import Rng, seeded
from privsweep.stochastic import Stochastic


@component
class Precode(Defense):
    """Replaces the features before the output layer by random ones, decoded from a sampled code.

    The model's outputs become ``[B, classes + 1]``: logits, and the Kullback-Leibler divergence of every
    example's code from a standard normal one, in bits, whose mean the loss adds ``beta`` times. Layers
    keep their names, and ``bottleneck`` comes before ``output``. There is no strength at which it is no
    defence: with ``beta=0`` too the features are sampled and pass through ``k`` numbers.

    Scheliga et al., "PRECODE" (WACV 2022), section 3.2 and equation 3; softplus, sampling at test time too,
    no activation after the decoder and the divergence in bits (``beta`` times ln 2 gives nats) as in the
    authors' code.
    """

    k: Annotated[int, Field(ge=1)]
    beta: Annotated[float, Field(ge=0)]

    def model(self, model: nn.Sequential, rng: Rng) -> nn.Sequential:
        """Shares its layers with ``model``; the new ones are PyTorch's default, drawn from ``rng``.

        Raises UserError where the last layer is not a linear one named ``output``.
        """
        layers = list(model.named_children())
        name, last = layers[-1] if layers else ("nothing", model)
        if name != "output" or type(last) is not nn.Linear:
            raise UserError(
                f"defense=precode: goes before a last layer that is linear and named output, and the model ends in "
                f"{name} ({type(last).__name__}); choose another model, or leave precode out"
            )
        with seeded(rng):
            bottleneck = Bottleneck(last.in_features, self.k)
        return nn.Sequential(OrderedDict([*layers[:-1], ("bottleneck", bottleneck), ("output", Output(last))]))

    def loss(self, loss: Loss) -> Loss:
        return lambda outputs, y: loss(outputs[:, :-1], y) + self.beta * outputs[:, -1].mean()


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
