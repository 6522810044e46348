"""Adam for many independent problems at once, each with its own best iterate and stop.

An iteration costs one evaluation and a few passes over the iterates, in place, so that it can be replayed on a GPU. The
host synchronises only now and then, to see which problems are finished and to report progress.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.replayed import Replayed
from privsweep.minimisation.median_filter import EVERY, median_filter
from privsweep.minimisation.minimum import Minimum, Objective, Progress

_BETAS, _EPSILON = (0.9, 0.999), 1e-8  # Kingma and Ba, 2015, algorithm 1
_CHECK_EVERY = 50  # evaluations between two checks of what is finished: one host synchronisation each
_WORTH_COMPACTING = 0.9  # live share of the batch below which the finished are taken out
_CURVE_POINTS = 300
_SMALLEST = 3  # times that a step shrinks: at every milestone

Decay = bool | Literal["stalled"]


def milestones(iterations: int) -> tuple[int, int, int]:
    """Iterations after which the step shrinks tenfold: 3/8, 5/8 and 7/8 of all, rounded as Geiping et al.'s code."""
    return int(iterations // 2.667), int(iterations // 1.6), int(iterations // 1.142)


def recorded_iterations(iterations: int) -> list[int]:
    """The iterations that the curve shows, by their count: a few hundred at most, the last among them."""
    every = -(-iterations // _CURVE_POINTS)
    return sorted({*range(every, iterations + 1, every), iterations})


@dataclass(frozen=True)
class BatchedAdam:
    """Adam with fixed steps (Kingma and Ba, 2015), as Geiping et al. (2020) use it.

    The first ``signed_coordinates`` coordinates of a gradient are replaced by their signs before Adam sees them.
    After every step the iterate is clamped to ``bounds``, lower and upper, ``[D]`` each. A problem whose objective
    has not decreased in ``patience`` evaluations stops where it is; 0 never stops. With ``decay="stalled"`` it goes on
    with the next smaller step, and stops when it has had the smallest: what keeps it from decreasing may be the step.
    Every 500 iterations a median filter smooths the images in the first coordinates, ``filtered`` says of what shape
    ``[N, C, H, W]``.
    """

    lr: float
    decay: Decay  # at the milestones; stalled: there at the latest
    signed_coordinates: int
    bounds: tuple[Tensor, Tensor] | None
    keep: Literal["last", "best"]  # the iterate to return: where it ended, or where its objective was least
    patience: int
    filtered: tuple[int, ...] | None

    def minimise(
        self, objective: Objective, start: Tensor, iterations: int, progress: Progress | None = None
    ) -> Minimum:
        """Run every problem from ``start`` ``[V, D]``; the curve has the columns that ``recorded_iterations`` names."""
        state = _State(self, start, iterations)
        iterate = state.iterating(objective)
        for done in range(iterations):
            iterate(*objective.draw())
            state.note(done)
            if self.filtered is not None and (done + 1) % EVERY == 0:
                state.filter(self.filtered)
            if (done + 1) % _CHECK_EVERY:
                continue
            live = state.live.nonzero().squeeze(1)
            if progress is not None:
                progress(done + 1, state.settle().value)
            if not len(live):
                break
            if len(live) < _WORTH_COMPACTING * len(state.live):
                objective = objective.take(live)
                state.take(live)
                iterate = state.iterating(objective)
        else:
            state.judge(*objective(state.x, *objective.draw())[:2])
            state.note(iterations)
        return state.minimum()

    def _steps(self, iterations: int, like: Tensor) -> Tensor:
        """By iteration minus a step's length over the bias of the mean, the root of that of the square, how often the
        step has shrunk."""
        done = torch.arange(iterations, dtype=torch.float64)
        shrunk = torch.zeros_like(done)
        for milestone in milestones(iterations) if self.decay else ():
            shrunk += milestone <= done
        first, second = _BETAS
        lengths = self.lr * 0.1**shrunk / (1 - first ** (done + 1))
        return torch.stack((-lengths, (1 - second ** (done + 1)).sqrt(), shrunk)).to(like)


class _State:
    """All state; ``rows`` says which problems are still in the batch, ``report`` holds them all.

    It is changed in place, and the iteration is counted on the device: a replay finds both where they were.
    """

    def __init__(self, rule: BatchedAdam, start: Tensor, iterations: int):
        self.rule = rule
        self.steps = rule._steps(iterations, start)
        self.done = torch.zeros(1, dtype=torch.int64, device=start.device)
        self.x, self.result = start.clone(), start.clone()
        self.mean, self.square = torch.zeros_like(start), torch.zeros_like(start)
        victims, device = len(start), start.device
        self.rows = torch.arange(victims, device=device)
        self.live = torch.ones(victims, dtype=torch.bool, device=device)
        self.broken = torch.zeros_like(self.live)
        self.value, self.least, self.shown = (start.new_full((victims,), torch.inf) for _ in range(3))
        self.since = torch.zeros(victims, dtype=torch.int64, device=device)  # evaluations without a decrease
        self.evaluations = torch.zeros_like(self.since)
        self.shrunk = start.new_zeros(victims)  # how often a problem's own step has, with decay="stalled"
        self.column = {done: i for i, done in enumerate(recorded_iterations(iterations))}
        self.report = Minimum(
            x=start.clone(),
            value=self.value.clone(),
            diverged=self.broken.clone(),
            evaluations=self.since.clone(),
            curve=start.new_full((victims, len(self.column)), torch.nan),
        )

    def settle(self) -> Minimum:
        """The report, with those still in the batch as they stand."""
        report, rows = self.report, self.rows
        report.x[rows], report.value[rows] = self.result, self.value
        report.diverged[rows], report.evaluations[rows] = self.broken, self.evaluations
        return report

    def take(self, keep: Tensor) -> None:
        self.settle()
        for name in (
            "x",
            "result",
            "mean",
            "square",
            "value",
            "least",
            "shown",
            "rows",
            "live",
            "broken",
            "since",
            "evaluations",
            "shrunk",
        ):
            setattr(self, name, getattr(self, name)[keep])

    def minimum(self) -> Minimum:
        """The report, with the curves of those that stopped drawn on to the end."""
        report = self.settle()
        missing = report.curve.isnan() & ~report.diverged[:, None]
        report.curve.copy_(torch.where(missing, report.value[:, None], report.curve))
        return report

    def iterating(self, objective: Objective) -> Replayed:
        """One evaluation, judged, and one step from it; called with what the objective draws."""

        def iterate(*drawn: Tensor) -> tuple[Tensor, ...]:
            value, gradient = objective(self.x, *drawn)[:2]
            self.judge(value, gradient)
            self.step(gradient)
            return ()

        return Replayed(iterate, self.x.device)

    def judge(self, value: Tensor, gradient: Tensor) -> None:
        """Record the point just evaluated, and which problems stop there."""
        finite = (value + gradient.sum(1)).isfinite()
        self.evaluations.add_(self.live)
        self.broken.logical_or_(self.live & ~finite)
        self.live.logical_and_(finite)
        better = self.live & (value < self.least)
        torch.where(better, value, self.least, out=self.least)
        self.since.add_(1).masked_fill_(better, 0)
        chosen = better if self.rule.keep == "best" else self.live
        torch.where(chosen[:, None], self.x, self.result, out=self.result)
        torch.where(chosen, value, self.value, out=self.value)
        torch.where(self.live, value, self.value, out=self.shown)
        self.shown.masked_fill_(self.broken, torch.nan)
        if self.rule.patience:
            stalled = self.since >= self.rule.patience
            self.live.logical_and_(~(self.slowed_down(stalled) if self.rule.decay == "stalled" else stalled))

    def slowed_down(self, stalled: Tensor) -> Tensor:
        """Gives those that stalled their next smaller step; which of them have had the smallest."""
        now = self.done.clamp(max=self.steps.shape[1] - 1)
        shrunk = torch.maximum(self.shrunk, self.steps[2].index_select(0, now))
        smaller = stalled & (shrunk < _SMALLEST)
        torch.where(smaller, shrunk + 1, self.shrunk, out=self.shrunk)
        self.since.masked_fill_(smaller, 0)
        return stalled & ~smaller

    def note(self, done: int) -> None:
        """The curve's point, of the evaluation after ``done`` iterations."""
        if done in self.column:
            self.report.curve[self.rows, self.column[done]] = self.shown

    def filter(self, shape: tuple[int, ...]) -> None:
        """Smooth the images of every live problem."""
        images = self.x[:, : prod(shape)]
        smooth = median_filter(images.reshape(-1, *shape[1:])).view_as(images)
        images.copy_(torch.where(self.live[:, None], smooth, images))

    def step(self, gradient: Tensor) -> None:
        """One iteration of Adam for every live problem."""
        rule, (first, second) = self.rule, _BETAS
        gradient = gradient.nan_to_num(0, 0, 0)  # of problems that broke off
        gradient[:, : rule.signed_coordinates].sign_()
        self.mean.lerp_(gradient, 1 - first)
        self.square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
        back, root, shrunk = self.steps.index_select(1, self.done)
        if rule.decay == "stalled":
            back = back * 0.1 ** (self.shrunk - shrunk).clamp_min(0)[:, None]
        scale = self.square.sqrt().div_(root).add_(_EPSILON)
        moved = self.x.addcdiv(self.mean * back, scale)
        if rule.bounds is not None:
            moved.clamp_(*rule.bounds)
        torch.where(self.live[:, None], moved, self.x, out=self.x)
        self.done.add_(1)
