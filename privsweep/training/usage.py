"""Which examples a training has used, told from the same streams that drew its batches."""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule
from privsweep.training.local import batches_of


def whole(schedule: LocalSchedule, defense: Defense) -> bool:
    """Whether every example is used, whatever is drawn: in whole epochs, of batches that no defence draws."""
    return schedule.steps is None and schedule.epochs > 0 and "sample" not in defense.acts_at()


def used_in(schedule: LocalSchedule, examples: int, defense: Defense, rng: Rng) -> Tensor:
    """Which of so many examples are in a batch of one training with the stream ``rng``, bool ``[examples]``."""
    if whole(schedule, defense):
        return torch.ones(examples, dtype=torch.bool)
    seen = torch.zeros(examples, dtype=torch.bool)
    for batch, _ in batches_of(schedule, examples, defense, rng, torch.device("cpu")):
        seen[batch] = True
    return seen
