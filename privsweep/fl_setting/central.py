"""Central training: one party holds all data; a round is an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

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

    training_calls: ClassVar[frozenset[str]] = frozenset(
        {"model", "loss", "fit", "sample", "example_gradients", "gradient"}
    )

    def __post_init__(self) -> None:
        if self.capture.client:
            raise UserError(f"fl_setting.capture.client={self.capture.client}: central training has client 0 only")
        if self.capture.step:
            raise UserError(
                f"fl_setting.capture.step={self.capture.step}: central training keeps weights by epoch; take 0 and "
                "name the epoch in fl_setting.capture.round"
            )

    def refuses(self, defense: Defense) -> str | None:
        if "fit" in defense.acts_at() and self.checkpoints:
            return (
                f"fl_setting.checkpoints={self.checkpoints}: where a defence trains in stages, only what they end with "
                "is kept; take []"
            )
        return super().refuses(defense)

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
        start, loss = alike(weights_of(net), 1), defense.loss(data.domain.loss)
        schedule = replace(self.local_schedule(), epochs=self.epochs)
        training = Training(net, start, None, loss, examples, schedule, [rng])
        fit_once = partial(_fit, defense=defense, log=log)
        log.end_with(replica(defense.fit(fit_once, training, rng.child("fit")), 0))
        return log.system()


def _fit(training: Training, defense: Defense, log: Log) -> Tensors:
    """Epoch by epoch, with one optimiser; noted in ``log`` where it is of one whole network, behind what is there."""
    before = len(log.curve)

    def after(done: int, weights: Tensors, losses: Tensor) -> None:
        if len(training.rngs) == 1 and weights.keys() == log.latest.keys():
            log.add(before + done, replica(weights, 0), losses.item())

    epoch = replace(training.schedule, epochs=1)
    return fit(replace(training, schedule=epoch), defense, rounds=training.schedule.epochs, after=after).weights
