"""Training settings in which one party holds all data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from privsweep.fl_setting.base import TrainingSetting
from privsweep.interface.component import component
from privsweep.interface.data import Data
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule
from privsweep.training.usage import used_in


@component
class SingleParty(TrainingSetting):
    """A setting in which one party holds all data; a round is an epoch."""

    epochs: Annotated[int, Field(ge=0, le=10_000_000)]

    training_calls: ClassVar[frozenset[str]] = frozenset(
        {"model", "loss", "fit", "sample", "example_gradients", "batch_gradient", "gradient"}
    )

    def refuses(self, defense: Defense) -> str | None:
        if "fit" in defense.acts_at() and self.checkpoints:
            return (
                "where one trains in stages, only what they end with is kept; take fl_setting.checkpoints=[] instead "
                f"of {self.checkpoints}"
            )
        return super().refuses(defense)

    def length(self) -> int:
        return self.epochs

    def shards(self, data: Data, rng: Rng) -> Sequence[Tensor]:
        return [torch.arange(len(data.train))]

    def local_schedule(self) -> LocalSchedule:
        return LocalSchedule(self.rule(), 1, None, self.batch_size)

    def used(self, data: Data, defense: Defense, rng: Rng, done: int) -> Tensor:
        seen = torch.zeros(len(data.train), dtype=torch.bool)
        for n in range(done):
            if seen.all():
                break
            seen |= used_in(self.local_schedule(), len(seen), defense, rng.child("round", n))
        return seen.nonzero().flatten()
