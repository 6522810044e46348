"""Which share of a layer's weights an example does not move at all."""

from __future__ import annotations

from statistics import NormalDist

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from privsweep.interface.data import Domain, ImageSet, Loss, Tensors
from privsweep.interface.errors import UserError
from privsweep.model.blocks import IN_GROUPS
from privsweep.training.frozen import unfrozen
from privsweep.training.stacked import mixes_examples

_NORMAL = NormalDist().inv_cdf(0.975)


class ZeroShares:
    """After every epoch: the share of each layer's weights whose gradient of the record's loss is exactly zero.

    Balle, Cherubin and Hayes, figure 16: such weights learn nothing of the record in that step. ``shares`` has them by
    layer, ``[K, epochs]``; empty before the first epoch.
    """

    def __init__(self, net: nn.Module, loss: Loss, domain: Domain, records: ImageSet, epochs: int):
        self.net, self.loss, self.epochs = net, loss, epochs
        self.x, self.y = domain.inputs_of(records), records.labels
        self.shares: dict[str, Tensor] = {}

    def __call__(self, epoch: int, weights: Tensors) -> None:
        """``weights`` ``[K, ...]`` after ``epoch`` epochs, from 1."""
        learnt = set(unfrozen(self.net))
        moving = {name: w for name, w in weights.items() if name in learnt}
        rest = {name: w for name, w in weights.items() if name not in learnt}

        def of_one(moving: Tensors, rest: Tensors, x: Tensor, y: Tensor) -> Tensor:
            return self.loss(functional_call(self.net, {**moving, **rest}, (x[None],)), y[None])

        grads = vmap(grad(of_one))(moving, rest, self.x, self.y)
        for name, g in grads.items():
            layer, _, kind = name.rpartition(".")
            if kind == "weight":
                shares = self.shares.setdefault(layer, torch.zeros(len(g), self.epochs, device=g.device))
                shares[:, epoch - 1] = (g == 0).flatten(1).float().mean(1)


def check_apart(net: nn.Module) -> None:
    """Raises UserError where a record's gradient depends on what else is in the batch."""
    if mixes_examples(net):
        raise UserError(
            "fl_setting.zero_gradients=true: the model normalises by the batch, so that no record has a gradient of "
            f"its own; take {IN_GROUPS}, or false"
        )


def mean_share(layer: str, shares: Tensor) -> dict[str, float]:
    """The mean over models ``[K]`` and, of several, the ends of its 95% interval."""
    name, mean = f"zero_gradients_{layer}", shares.double().mean().item()
    if len(shares) == 1:
        return {name: mean}
    away = float(_NORMAL * shares.double().std() / len(shares) ** 0.5)
    return {name: mean, f"{name}_low": mean - away, f"{name}_high": mean + away}
