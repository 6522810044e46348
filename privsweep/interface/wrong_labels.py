"""Labels that are drawn among the wrong ones, for records that a model can only learn by heart."""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.interface.randomness import Rng


def wrong(labels: Tensor, classes: int, rng: Rng) -> Tensor:
    """For each of ``labels`` ``[n]``, int64 below ``classes``, one of all others."""
    steps = torch.randint(1, max(classes, 2), labels.shape, generator=rng.generator())
    return (labels + steps.to(labels.device)) % classes
