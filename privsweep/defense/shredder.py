"""Shredder: noise on what the client sends, learnt for a network that stays as it is (Mireshghallah et al., 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.training import LocalSchedule, Optimizer, Training
from privsweep.model.loss_term import PlusLastOutput
from privsweep.model.perturbation import NoiseCollection
from privsweep.model.split_network import SplitNetwork, appended, split_by_setting


@component
class Shredder(Defense):
    """A collection of learnt noise tensors, one of which is added to the features of each query, at random.

    The network is trained without noise, and then frozen. ``collection`` tensors start from a Laplace distribution of
    that ``scale`` and minimise the loss less ``magnitude`` times their mean absolute value: as large as the
    network bears. ``multiplicative`` also learns as many weights for the features, which start at one.

    Shredder's section 2 and its public code, which starts from scale 20 on unnormalised features and pushes the noise
    up by a negative weight decay. Ensembler names it "small noise in a single network that does not require
    retraining", at about five points of accuracy; the run's ``snr`` says how large the noise is.
    """

    collection: Annotated[int, Field(ge=1)]
    scale: Annotated[float, Field(ge=0)]
    magnitude: Annotated[float, Field(ge=0)]
    multiplicative: bool
    epochs: Annotated[int, Field(ge=0)]
    lr: Annotated[float, Field(gt=0)]

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        net = split_by_setting(model, "shredder")
        with seeded(rng):
            uniform = torch.rand(self.collection, *net.sent) - 0.5
            noises = -self.scale * uniform.sign() * torch.log1p(-2 * uniform.abs().clamp(max=0.4999999))
            weights = torch.ones(self.collection, *net.sent) if self.multiplicative else None
        return net.with_parts(head=appended(net.head, "noise", NoiseCollection(noises, weights)))

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        net = training.net
        assert isinstance(net, SplitNetwork)
        learnt = {name: w for name, w in training.start.items() if name.startswith("head.noise.")}
        rest = {name: w for name, w in training.start.items() if name not in learnt}
        first = fit(replace(training, net=net.with_parts(head=net.head[:-1]), start=rest))
        second = _Magnified(net)
        size = training.schedule.batch_size
        trained = fit(
            replace(
                training,
                net=second,
                start={f"net.{name}": w for name, w in {**first, **learnt}.items()},
                trainable=["net.head.noise"],
                loss=PlusLastOutput(training.loss, -self.magnitude),
                schedule=LocalSchedule(Optimizer("adam", self.lr, 0.0), self.epochs, None, size),
                rngs=[rng.child("noise")],
            )
        )
        return {name.removeprefix("net."): w for name, w in trained.items()}


class _Magnified(nn.Module):
    """The network with one more output: the noise's mean absolute value."""

    def __init__(self, net: SplitNetwork):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        noise = self.net.head[-1]
        assert isinstance(noise, NoiseCollection)
        outputs = self.net(x)
        return torch.cat([outputs, noise.noises.abs().mean().expand(len(outputs), 1)], 1)
