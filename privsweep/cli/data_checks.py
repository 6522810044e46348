"""What is refused of a plan for its data, before anything of it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from privsweep.cli.sweep import PlannedRun, SweepPlan
from privsweep.interface.errors import UserError
from privsweep.store.checksums import at_hand
from privsweep.store.store import signature

if TYPE_CHECKING:
    from privsweep.interface.data import ImageSet


def check_data(planned: SweepPlan) -> None:
    """Refuses, before anything runs, what does not fit its data. A dataset is loaded once, and fetched if need be.

    Where nothing will run, what is not at hand goes unchecked, and of runs that differ in their seed alone all but one.
    """
    runs = planned.missing
    if runs and runs[0].spec.session.plan:
        checked = {signature({**run.spec.config, "seed": None}): run for run in reversed(runs)}
        runs = [run for run in reversed(checked.values()) if all(map(at_hand, run.spec.contents))]
    of_one_dataset: dict[str, list[PlannedRun]] = {}
    for run in runs:
        key = signature({"dataset": run.spec.config["dataset"], "seed": run.spec.session.seed})
        of_one_dataset.setdefault(key, []).append(run)
    for alike in of_one_dataset.values():
        _check_dataset(alike)


def _check_dataset(runs: Sequence[PlannedRun]) -> None:
    """Of runs on the same data, which are gone when the next are loaded."""
    from privsweep.interface.randomness import Rng
    from privsweep.run.run import check_with_data, prior_of

    rng = Rng(runs[0].spec.session.seed)
    data = runs[0].spec.dataset.load(rng.child("dataset"))
    priors: dict[str, ImageSet | None] = {}
    for run in runs:
        spec, own = run.spec, signature({"prior": run.spec.config["prior"]})
        try:
            if own not in priors:
                priors[own] = prior_of(spec, data, rng)
            check_with_data(spec, data, priors[own], rng)
        except UserError as error:
            raise UserError(f"{' '.join(run.overrides)}: {error}") from error
