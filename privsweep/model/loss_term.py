"""A term of the loss that a network computes itself and hands out as one more output, behind the logits."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from privsweep.interface.data import Loss


@dataclass(frozen=True)
class PlusLastOutput:
    """``loss`` of all outputs but the last, and ``weight`` times the mean of that."""

    loss: Loss
    weight: float

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.loss(outputs[:, :-1], y) + self.weight * outputs[:, -1].mean()
