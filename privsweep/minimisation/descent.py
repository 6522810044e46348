"""L-BFGS that goes downhill only, for many independent problems at once, each with its own history, step and stop.

For objectives whose scale nobody knows, and with kinks: of a step that does not lower the objective by a share of what
its slope promises, a shorter one is tried (Nocedal and Wright, "Numerical Optimization", 2006, algorithms 3.1 and 7.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.minimisation.lbfgs import CHECK_EVERY, LEAST_CURVATURE, WORTH_COMPACTING, evaluating
from privsweep.minimisation.lbfgs_history import Curvature
from privsweep.minimisation.minimum import Objective

_SHARE = 1e-4  # of what the slope promises
_SHORTER = (0.1, 0.5)  # than the step before, at least and at most


@dataclass(frozen=True)
class BatchedDescent:
    """With ``history`` curvature pairs, and no more than so many ``evaluations`` of a problem."""

    evaluations: int
    history: int

    def least(self, objective: Objective, start: Tensor) -> tuple[Tensor, Tensor]:
        """Where each problem ends from ``start`` ``[V, D]``, and the objective there, ``[V]``.

        A problem ends early where a step promises less than rounding. One that is no number at the start stays there.
        """
        found, value = start.clone(), start.new_full((len(start),), torch.inf)
        rows, state = torch.arange(len(start), device=start.device), _State(start, self.history)
        evaluate = evaluating(objective, start.device)
        for evaluation in range(self.evaluations):
            state.judge(*evaluate(state.tried, *objective.draw()))
            if (evaluation + 1) % CHECK_EVERY:
                continue
            live = state.live.nonzero()[:, 0]
            if len(live) < WORTH_COMPACTING * len(rows):
                found[rows], value[rows] = state.x, state.value
                if not len(live):
                    return found, value
                objective, rows = objective.take(live), rows[live]
                state.take(live)
                evaluate = evaluating(objective, start.device)
        found[rows], value[rows] = state.x, state.value
        return found, value


class _State:
    """Where every problem is, and the point that it tries next."""

    def __init__(self, start: Tensor, history: int):
        self.x, self.tried = start.clone(), start.clone()
        self.gradient = torch.zeros_like(start)
        self.value = start.new_full((len(start),), torch.inf)
        self.length = torch.zeros_like(self.value)  # of the step that is tried, as a share of the direction
        self.slope = torch.zeros_like(self.value)  # along the direction
        self.live = torch.ones_like(self.value, dtype=torch.bool)
        self.curvature = Curvature(start, history)
        self.first = True

    def take(self, keep: Tensor) -> None:
        self.curvature.take(keep)
        for name in ("x", "tried", "gradient", "value", "length", "slope", "live"):
            setattr(self, name, getattr(self, name).index_select(0, keep))

    def judge(self, value: Tensor, gradient: Tensor) -> None:
        """Go to the points that were tried where they are low enough, and choose the next."""
        finite = value.isfinite() & gradient.isfinite().all(1)
        promised = self.length * self.slope
        lower = self.live & finite & (value <= self.value + _SHARE * promised)
        if self.first:
            self.live = lower
        step, change = (
            torch.where(lower[:, None], new - old, 0) for new, old in ((self.tried, self.x), (gradient, self.gradient))
        )
        # The least of a parabola through what was found, from where the step began.
        least = -promised / (2 * (value - self.value - promised))
        shorter = self.length * torch.where(finite, least, 0).clamp(*_SHORTER).nan_to_num(_SHORTER[1])
        self.x, self.gradient = self.x + step, self.gradient + change
        self.value = torch.where(lower, value, self.value)
        if self.first:
            direction = -self.gradient
            self.length = (1 / self.gradient.abs().sum(1)).clamp(max=1)
        else:
            direction = self.curvature.direction(self.gradient, step, change, LEAST_CURVATURE)
            self.length = torch.where(lower, 1, shorter)
        self.slope = (self.gradient * direction).sum(1)
        rounding = torch.finfo(value.dtype).eps * self.value.abs()
        self.live = self.live & (-self.length * self.slope > rounding)
        self.tried = torch.where(self.live[:, None], self.x + self.length[:, None] * direction, self.x)
        self.first = False
