"""What a minimiser of many independent problems is given, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

Progress = Callable[[float, Tensor], None]  # (mean count of finished outer iterations, objectives [V])


class Objective(Protocol):
    """``V`` problems of dimension ``D``."""

    def draw(self) -> tuple[Tensor, ...]:
        """What the next evaluation needs of chance, if anything; drawn on the host."""
        ...

    def __call__(self, x: Tensor, *drawn: Tensor) -> tuple[Tensor, ...]:
        """Values ``[V]``, gradients ``[V, D]`` at ``x`` ``[V, D]``, and what else there is to say of the point.

        It runs on the device alone, so that it may be recorded and replayed.
        """
        ...

    def take(self, rows: Tensor) -> Objective:
        """The same for the problems ``rows`` only."""
        ...


@dataclass(frozen=True)
class Minimum:
    """Where every problem ended."""

    x: Tensor  # [V, D] the last iterate whose value and gradient were finite
    value: Tensor  # [V] the objective there
    diverged: Tensor  # bool [V]: broke off at a value or gradient that is not finite
    evaluations: Tensor  # int64 [V]
    curve: Tensor  # [V, outer] objective after each outer iteration; NaN from where the problem diverged
