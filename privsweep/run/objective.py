"""The one number of a run that a search goes by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from difflib import get_close_matches

from privsweep.interface.errors import UserError
from privsweep.interface.utility import with_finals
from privsweep.run.reported import can_report, nearest_number
from privsweep.run.run_spec import RunSpec
from privsweep.store.curve_file import mean_curve
from privsweep.store.store import Record, Store


class NoNumberError(UserError):
    """The run has no number of that name, nor has another run of the same components."""


def check_objective(spec: RunSpec, record: Record | None) -> None:
    """Raises NoNumberError where it is known that the run has no such number, before it is made or from its record."""
    asked = spec.session.objective
    if spec.view is None and asked.partition(".")[0] in ("attack", "metrics"):
        remedy = "choose an attack, or a number such as objective=utility.test_accuracy"
        raise NoNumberError(f"objective={asked}: attack={spec.choices.get('attack')} attacks nothing; {remedy}")
    if record is not None and record["status"] == "complete" and not spec.session.force:
        _read(spec, record)
    elif asked != "attack" and not can_report(spec, asked):
        raise NoNumberError(f"objective={asked}: no trial can have such a number; {nearest_number(asked, [spec])}")


def objective_of(spec: RunSpec, record: Record) -> float:
    """What ``objective`` names of a stored run. Raises UserError where the run has no such number, or none at all.

    Of ``attack`` it is the value that the attack itself minimised, as it was at the end, the mean over all victims; one
    whose attack diverged counts with the last finite value.
    """
    asked, found = spec.session.objective, _read(spec, record)
    if found is None or not math.isfinite(found):
        raise UserError(f"objective={asked}: is {'N/A' if found is None else found} in this run, which says nothing")
    return float(found)


def _read(spec: RunSpec, record: Record) -> float | None:
    asked = spec.session.objective
    if asked == "attack":
        return _attacks_own(spec)
    part, _, name = asked.partition(".")
    numbers: Mapping[str, float | None] = with_finals(record[part]) if part == "utility" else record[part]
    if name not in numbers:
        near = [f"did you mean {part}.{one}? " for one in get_close_matches(name, numbers, 1)]
        there = f"of {part} there are {', '.join(numbers) or 'none'}"
        raise NoNumberError(f"objective={asked}: the run has no such number; {''.join(near)}{there}")
    return numbers[name]


def _attacks_own(spec: RunSpec) -> float:
    path = Store(spec.session.output_dir).folder(spec.signature) / "curve.csv"
    if not path.is_file():
        raise NoNumberError(
            f"objective=attack: attack={spec.choices.get('attack')} minimises nothing that it tells of; "
            "choose a number of the record, such as objective=metrics.mse"
        )
    return float(mean_curve(path).iloc[-1, 0])
