"""The choice and the run of a minimiser, and the best of the random starts that every victim gets."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from privsweep.gradient_inversion.initialisation import bounds
from privsweep.gradient_inversion.objective import MatchingObjective
from privsweep.interface.component import component
from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.roles import Bench
from privsweep.minimisation.adam import BatchedAdam, Decay, recorded_iterations
from privsweep.minimisation.lbfgs import BatchedLBFGS
from privsweep.minimisation.minimum import Minimum, Progress

_TICK_SECONDS = 1.0

Count = Annotated[int, Field(ge=1)]
Iterations = Annotated[int, Field(ge=1, le=10_000_000)]  # a curve has a number for each
Few = Annotated[int, Field(ge=1, le=10_000)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


@component
class Minimisation:
    """How an attack minimises its objective; ``conf/attack/iga.yaml`` says what each setting means."""

    optimizer: Literal["lbfgs", "adam", "adam_median"]
    iterations: Iterations
    lr: Positive
    decay: Decay
    sign_gradient: bool
    clamp_pixels: bool
    keep: Literal["last", "best"]
    patience: Annotated[int, Field(ge=0)]
    inner_iterations: Count
    history: Few
    tolerance_grad: Weight
    tolerance_change: Weight
    restarts: Few
    convergence_threshold: Positive

    reports: ClassVar[frozenset[str]] = frozenset(
        {"gradient_distance", "iterations_to_zero", "evaluations", "restart", "stopped_early"}
    )

    def __post_init__(self) -> None:
        """Raises UserError for settings of Adam that L-BFGS would ignore, and for a patience that never ends."""
        if self.decay == "stalled" and not self.patience:
            raise UserError(
                "attack.decay=stalled: nothing stalls with attack.patience=0; take 1200, or attack.decay=true"
            )
        if self.optimizer == "lbfgs":
            off = {"decay": False, "sign_gradient": False, "clamp_pixels": False, "keep": "last", "patience": 0}
            for name, value in off.items():
                if getattr(self, name) != value:
                    given, neutral = (str(v).lower() for v in (getattr(self, name), value))
                    raise UserError(
                        f"attack.{name}={given}: works with adam only; take attack.optimizer=adam or {name}={neutral}"
                    )

    @property
    def pairs_kept(self) -> int:
        """Pairs of vectors that L-BFGS keeps; Adam keeps none."""
        return self.history if self.optimizer == "lbfgs" else 0

    @property
    def curve_iterations(self) -> Sequence[int]:
        """The iterations that the curve shows."""
        return recorded_iterations(self.iterations) if self.optimizer != "lbfgs" else range(1, self.iterations + 1)

    def minimiser(self, objective: MatchingObjective, start: Tensor, domain: Domain) -> BatchedLBFGS | BatchedAdam:
        """For every ``start`` ``[V * restarts, D]``."""
        if self.optimizer == "lbfgs":
            return BatchedLBFGS(
                self.lr, self.inner_iterations, self.history, self.tolerance_grad, self.tolerance_change
            )
        box = bounds(domain, objective.shape, start) if self.clamp_pixels else None
        signed = objective.sizes[0] if self.sign_gradient else 0  # of the images alone
        filtered = objective.shape if self.optimizer == "adam_median" else None
        return BatchedAdam(self.lr, self.decay, signed, box, self.keep, self.patience, filtered)

    def best_restarts(self, end: Minimum, distance: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of every victim's restarts the one of least ``distance``; a diverged one only if all have diverged.

        ``end`` and ``distance`` are ``[V * restarts]``. Returns the rows of those ``[V]``, and what is reported of
        them; ``stopped_early``, where ``patience`` may stop a victim: it did, and the objective had not converged.
        """
        diverged = end.diverged.view(-1, self.restarts)
        eligible = ~diverged | diverged.all(1, keepdim=True)
        ranked = torch.where(eligible, distance.view_as(diverged), torch.inf).nan_to_num(torch.inf, torch.inf)
        restart = ranked.argmin(1)
        rows = torch.arange(len(restart), device=restart.device) * self.restarts + restart
        curve, distance = end.curve[rows], distance[rows]
        converged = curve < self.convergence_threshold
        shown = torch.tensor(self.curve_iterations, dtype=curve.dtype, device=curve.device)
        report = {}
        if self.optimizer != "lbfgs" and self.patience and self.decay != "stalled":
            short = end.evaluations[rows] <= self.iterations  # where it ends is evaluated, too
            report["stopped_early"] = short & ~end.diverged[rows] & ~converged.any(1)
        return rows, report | {
            "diverged": end.diverged[rows],
            "curve": curve,
            "gradient_distance": distance,
            "iterations_to_zero": torch.where(converged.any(1), shown[converged.int().argmax(1)], torch.inf),
            "evaluations": end.evaluations.view_as(diverged).sum(1),
            "restart": restart,
        }


def reporting(bench: Bench, iterations: int) -> Progress:
    """Reports to the bench about once a second."""
    last = time.monotonic()

    def progress(done: float, value: Tensor) -> None:
        nonlocal last
        if time.monotonic() - last >= _TICK_SECONDS:
            last = time.monotonic()
            bench.tick(int(done), iterations, gradient_distance=value.nanmedian().item())

    return progress
