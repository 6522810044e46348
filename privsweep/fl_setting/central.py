"""Central training: one party holds all data; a round is an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import cross_entropy

from privsweep.fl_setting.base import Log, TrainingSetting
from privsweep.interface.component import ExposureOnly, component
from privsweep.interface.data import Architecture, Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Training, alike, labelled, replica
from privsweep.training.fit import fit
from privsweep.training.local import weights_of


@component
class Central(TrainingSetting):
    """Plain training with one optimiser from the first epoch to the last; a server sees the gradients."""

    epochs: Annotated[int, Field(ge=0)]
    position: ExposureOnly[Literal["server"]]

    training_calls: ClassVar[frozenset[str]] = frozenset({"model", "loss", "sample", "example_gradients", "gradient"})

    def __post_init__(self) -> None:
        if self.capture.client:
            raise UserError(f"fl_setting.capture.client={self.capture.client}: central training has client 0 only")
        if self.capture.step:
            raise UserError(
                f"fl_setting.capture.step={self.capture.step}: central training keeps weights by epoch; take 0 and "
                "name the epoch in fl_setting.capture.round"
            )

    def length(self) -> int:
        return self.epochs

    def shards(self, data: Data, rng: Rng) -> Sequence[Tensor]:
        return [torch.arange(len(data.train))]

    def local_schedule(self) -> LocalSchedule:
        return LocalSchedule(self.rule(), 1, None, self.batch_size)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        log = Log(data, net, self.epochs, self.checkpoints, bench)
        log.add(0, weights_of(net))
        examples = labelled(data.train, data.domain, self.shards(data, rng))
        start, loss = alike(weights_of(net), 1), defense.loss(cross_entropy)

        def after(done: int, weights: Tensors, losses: Tensor) -> None:
            log.add(done, replica(weights, 0), losses.item())

        training = Training(net, start, None, loss, examples, self.local_schedule(), [rng])
        fit(training, defense, rounds=self.epochs, after=after)
        return log.system()
