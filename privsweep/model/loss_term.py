"""A term of the loss that a network computes itself and hands out as one more output, behind the logits."""

from __future__ import annotations

from privsweep.interface.data import Loss


def plus_last_output(loss: Loss, weight: float) -> Loss:
    """``loss`` of all outputs but the last, and ``weight`` times the mean of that."""
    return lambda outputs, y: loss(outputs[:, :-1], y) + weight * outputs[:, -1].mean()
