"""What a dataset holds beside its splits: canaries, and the classes that its superclasses are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from privsweep.interface.data import ImageSet


@dataclass(frozen=True)
class Canaries:
    """Images with wrong labels that a draw has told apart: membership is asked of them alone."""

    inside: Tensor  # int64, ascending: positions in the training split of those that are trained on
    outside: ImageSet  # trained on by nobody

    def to(self, device: torch.device) -> Canaries:
        return Canaries(self.inside, self.outside.to(device))


@dataclass(frozen=True)
class Kinds:
    """The classes of examples whose labels are superclasses; a model learns nothing of them. On the CPU."""

    train: Tensor  # int64 [n]
    prior: Tensor | None  # int64 [m] of the adversary's held-out examples; None: there are none
    superclass: tuple[int, ...]  # of every class
