"""What is refused of a plan for its data, before anything of it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from privsweep.cli.cells import words_of
from privsweep.cli.sweep import PlannedRun, SweepPlan
from privsweep.interface.errors import UserError
from privsweep.store.checksums import absent
from privsweep.store.store import signature

if TYPE_CHECKING:
    from privsweep.interface.data import Data, Dataset, ImageSet
    from privsweep.interface.randomness import Rng


def check_data(planned: SweepPlan) -> list[str]:
    """Refuses, before anything runs, what does not fit its data. A dataset is loaded once, and fetched if need be.

    Where nothing will run, no pixels are read, and of runs that differ in their seed alone all but one are passed over;
    so is what is not at hand: the answer says why, one line for each file or folder. Raises UserError.
    """
    runs, unchecked = planned.missing, list[str]()
    planning = bool(runs) and runs[0].spec.session.plan
    if planning:
        checked = {signature({**run.spec.config, "seed": None}): run for run in reversed(runs)}
        lacking = {run.name: [*filter(None, map(absent, run.spec.contents))] for run in checked.values()}
        runs = [run for run in reversed(checked.values()) if not lacking[run.name]]
        unchecked = list(dict.fromkeys(line for lines in reversed(lacking.values()) for line in lines))
    of_one_dataset: dict[str, list[PlannedRun]] = {}
    for run in runs:
        key = signature({"dataset": run.spec.config["dataset"], "seed": run.spec.session.seed})
        of_one_dataset.setdefault(key, []).append(run)
    for alike in of_one_dataset.values():
        _check_dataset(alike, planned, planning)
    return unchecked


def _check_dataset(runs: Sequence[PlannedRun], planned: SweepPlan, planning: bool) -> None:
    """Of runs on the same data, which are gone when the next are loaded."""
    from privsweep.run.with_data import outline, read

    if planning:
        try:
            return _check(runs, planned, outline)
        except UserError:
            raise
        except Exception:  # a component of the user's own may look at pixels
            pass
    _check(runs, planned, read)


def _check(runs: Sequence[PlannedRun], planned: SweepPlan, read: Callable[[Dataset, Rng], Data]) -> None:
    from privsweep.interface.randomness import Rng
    from privsweep.run.with_data import check_with_data, prior_of

    rng = Rng(runs[0].spec.session.seed)
    priors: dict[str, ImageSet | None] = {}
    data: Data | None = None
    for run in runs:
        spec, own = run.spec, signature({"prior": run.spec.config["prior"]})
        try:
            data = data or read(spec.dataset, rng.child("dataset"))
            if own not in priors:
                priors[own] = prior_of(spec, data, rng, read)
            check_with_data(spec, data, priors[own], rng)
        except UserError as error:
            name, line = _name(run, planned), str(error)
            raise UserError(line if line.startswith(name) else name + line) from error


def _name(run: PlannedRun, planned: SweepPlan) -> str:
    """Which of several it is: the cell of a table, or the values that a sweep gives it."""
    name = run.name if planned.table else words_of(run.overrides, planned.swept) if planned.swept else ""
    return f"{name}: " if name else ""
