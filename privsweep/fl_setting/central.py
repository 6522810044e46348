"""Central training: one party holds all data; a round is an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from privsweep.fl_setting.base import AskedForProperties
from privsweep.fl_setting.single_party import SingleParty
from privsweep.interface.component import component
from privsweep.interface.data import Architecture, Data
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import Bench
from privsweep.training.central import train_centrally
from privsweep.training.log import Log
from privsweep.training.stacked import at_once, stackable


@component
class Central(SingleParty, AskedForProperties):
    """Plain training with one optimiser from the first epoch to the last; a server sees the gradients."""

    def __post_init__(self) -> None:
        if self.position == "client":
            raise UserError(
                "fl_setting.position=client: in central training one party trains, and there is no other client who "
                "could listen; take server, or fl_setting=fedavg or fedsgd"
            )
        if self.capture.client:
            raise UserError(f"fl_setting.capture.client={self.capture.client}: central training has client 0 only")
        if self.capture.step:
            raise UserError(
                f"fl_setting.capture.step={self.capture.step}: central training keeps weights by epoch; take 0 and "
                "name the epoch in fl_setting.capture.round"
            )

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        [system] = self.train_together(data, model, [defense], [rng], bench)
        return system

    def trains_together(self, net: nn.Module, defenses: Sequence[Defense], device: torch.device) -> bool:
        if len(defenses) > 1 and at_once(device) == "stacked":  # which has one for all
            return False
        return all("fit" not in d.acts_at() and stackable(net, d) for d in defenses)

    def train_together(
        self, data: Data, model: Architecture, defenses: Sequence[Defense], rngs: Sequence[Rng], bench: Bench
    ) -> list[System]:
        nets = [self.network(data, model, d, rng) for d, rng in zip(defenses, rngs, strict=True)]
        logs = [Log(data, nets[0], self.epochs, self.checkpoints, bench, self.evaluate_every) for _ in rngs]
        schedule = replace(self.local_schedule(), epochs=self.epochs)

        def fresh(own: Rng) -> nn.Module:
            return self.plain(data.domain, model, own).to(data.train.labels.device)

        train_centrally(nets, fresh, data, defenses[0].loss(data.domain.loss), schedule, defenses, rngs, logs)
        return [log.system() for log in logs]
