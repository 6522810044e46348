"""L-BFGS with fixed steps for many independent problems at once, each with its own history, step and stop.

It behaves as repeated calls of ``torch.optim.LBFGS`` without line search. There the outer calls and their inner
iterations only divide one continuous sequence of iterates: a call ends after ``inner`` iterations or when a tolerance
is met, and the next one goes on from the same point with the same history. So every evaluation here advances every
live problem by one iteration, whatever its own count of outer iterations; a problem that is finished leaves the
batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.interface.replayed import Replayed
from privsweep.minimisation.lbfgs_history import Curvature
from privsweep.minimisation.minimum import Minimum, Objective, Progress

LEAST_CURVATURE = 1e-10  # pairs with a smaller <s, y> are not stored, as in torch.optim.LBFGS
CHECK_EVERY = 10  # evaluations between two checks of what is finished: one host synchronisation each
WORTH_COMPACTING = 0.9  # live share of the batch below which the finished are taken out


@dataclass(frozen=True)
class BatchedLBFGS:
    """The step is ``lr`` times the direction, the very first ``lr * min(1, 1 / |g|_1)``.

    An outer iteration ends when the largest move of a coordinate is at most ``tolerance_change``, the
    objective changes by less than that, or the largest entry of the gradient is at most ``tolerance_grad``.
    In the last case, and if the slope along the direction is above ``-tolerance_change``, all further outer
    iterations would stay where they are, and the problem is finished.
    """

    lr: float
    inner: int  # iterations in an outer one
    history: int  # curvature pairs
    tolerance_grad: float
    tolerance_change: float

    def minimise(self, objective: Objective, start: Tensor, outer: int, progress: Progress | None = None) -> Minimum:
        """Run every problem from ``start`` ``[V, D]`` for ``outer`` outer iterations at most."""
        state = _State(self, start, outer)
        evaluate = evaluating(objective, start.device)
        evaluation = 0
        while True:
            state.advance(*evaluate(state.x, *objective.draw()))
            evaluation += 1
            if evaluation % CHECK_EVERY:
                continue
            live = state.live.nonzero().squeeze(1)
            if progress is not None:
                progress(state.mean_outer(), state.settle().value)
            if not len(live):
                return state.settle()
            if len(live) < WORTH_COMPACTING * len(state.live):
                objective = objective.take(live)
                state.take(live)
                evaluate = evaluating(objective, start.device)


def evaluating(objective: Objective, device: torch.device) -> Replayed:
    """Values and gradients at a point; called with the point and what the objective draws."""
    return Replayed(lambda x, *drawn: objective(x, *drawn)[:2], device)


class _State:
    """All state; ``rows`` says which problems are still in the batch, ``report`` holds them all."""

    def __init__(self, rule: BatchedLBFGS, start: Tensor, outer: int):
        self.rule, self.limit = rule, outer
        self.first = True
        self.x, self.result = start.clone(), start.clone()
        self.g = torch.zeros_like(start)
        self.step = torch.zeros_like(start)
        self.curvature = Curvature(start, rule.history)
        victims, device = len(start), start.device
        self.rows = torch.arange(victims, device=device)
        self.live = torch.ones(victims, dtype=torch.bool, device=device)
        self.outer = torch.zeros(victims, dtype=torch.int64, device=device)
        self.inner = torch.zeros_like(self.outer)
        self.broken = torch.zeros_like(self.live)
        self.evaluations = torch.zeros_like(self.outer)
        self.value, self.reached = (start.new_full((victims,), torch.inf) for _ in range(2))
        self.report = Minimum(
            x=start.clone(),
            value=self.value.clone(),
            diverged=self.broken.clone(),
            evaluations=self.evaluations.clone(),
            curve=start.new_full((victims, outer), torch.nan),
        )
        self.outer_of_all = self.outer.clone()

    def settle(self) -> Minimum:
        """The report, with those still in the batch as they stand."""
        report, rows = self.report, self.rows
        report.x.index_copy_(0, rows, self.result)
        report.value[rows], report.diverged[rows] = self.reached, self.broken
        report.evaluations[rows] = self.evaluations
        return report

    def take(self, keep: Tensor) -> None:
        self.settle()
        self.curvature.take(keep)
        for name in (
            "x",
            "result",
            "g",
            "step",
            "rows",
            "live",
            "broken",
            "evaluations",
            "outer",
            "inner",
            "value",
            "reached",
        ):
            setattr(self, name, getattr(self, name).index_select(0, keep))

    def advance(self, value: Tensor, g: Tensor) -> None:
        """Judge the point just evaluated, then move every live problem by one iteration."""
        rule = self.rule
        steepest = g.abs().amax(1)
        finite = value.isfinite() & steepest.isfinite()
        self._record(value, finite)
        broke_off = self.live & ~finite
        self.live = self.live & finite
        # where a problem is finished, keep numbers that are finite
        value = torch.where(self.live, value, self.value)
        g = torch.where(self.live[:, None], g, self.g)

        stationary = self.live & (steepest <= rule.tolerance_grad)
        if not self.first:
            still = self.step.abs().amax(1) <= rule.tolerance_change
            level = (value - self.value).abs() < rule.tolerance_change
            self._end_outer(self.live & (still | level | stationary | (self.inner == rule.inner)), value)
        direction = self._direction(g)
        flat = self.live & ((g * direction).sum(1) > -rule.tolerance_change)
        self._stand_still(stationary | flat, value)
        finished = stationary | flat | (self.outer >= self.limit)
        self.live = self.live & ~finished
        self._count(broke_off)

        length = rule.lr * (1 / g.abs().sum(1)).clamp(max=1)[:, None] if self.first else rule.lr
        self.step = torch.where(self.live[:, None], length * direction, 0)
        self.x = torch.where(self.live[:, None], self.x + self.step, self.result)
        self.inner = self.inner + self.live
        self.value, self.g, self.first = value, g, False

    def mean_outer(self) -> float:
        return self.outer_of_all.double().mean().item()

    def _record(self, value: Tensor, finite: Tensor) -> None:
        """Count the evaluation and keep the iterate, if it is finite."""
        self.evaluations += self.live
        kept = self.live & finite
        self.result = torch.where(kept[:, None], self.x, self.result)
        self.reached = torch.where(kept, value, self.reached)
        self.broken = self.broken | (self.live & ~finite)

    def _end_outer(self, ended: Tensor, value: Tensor) -> None:
        curve = self.report.curve
        place = self.outer.clamp(max=self.limit - 1)
        curve[self.rows, place] = torch.where(ended, value, curve[self.rows, place])
        self.outer = self.outer + ended
        self.inner = torch.where(ended, 0, self.inner)

    def _stand_still(self, stuck: Tensor, value: Tensor) -> None:
        """All outer iterations to come end at this value."""
        later = torch.arange(self.limit, device=stuck.device) >= self.outer[:, None]
        curve = self.report.curve[self.rows]
        self.report.curve[self.rows] = torch.where(stuck[:, None] & later, value[:, None], curve)

    def _count(self, broke_off: Tensor) -> None:
        running = self.live & ~broke_off
        self.outer_of_all[self.rows] = torch.where(running, self.outer, self.limit)

    def _direction(self, g: Tensor) -> Tensor:
        if self.first:
            return -g
        return self.curvature.direction(g, self.step, g - self.g, LEAST_CURVATURE)
