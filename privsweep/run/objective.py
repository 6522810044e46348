"""The one number of a run that a search goes by."""

from __future__ import annotations

import math

import pandas as pd

from privsweep.interface.errors import UserError
from privsweep.interface.utility import with_finals
from privsweep.run.run_spec import RunSpec
from privsweep.store.store import Record, Store


def objective_of(spec: RunSpec, record: Record) -> float:
    """What ``objective`` names of a stored run. Raises UserError where the run has no such number, or none at all.

    Of ``attack`` it is the value that the attack itself minimised, as it was at the end, the mean over the victims.
    """
    asked = spec.session.objective
    if asked == "attack":
        found = _attacks_own(spec)
    else:
        part, _, name = asked.partition(".")
        numbers = with_finals(record[part]) if part == "utility" else record[part]
        if name not in numbers:
            there = ", ".join(numbers) or "nothing"
            raise UserError(f"objective={asked}: the run has no such number; of {part} there are {there}")
        found = numbers[name]
    if found is None or not math.isfinite(found):
        raise UserError(f"objective={asked}: is {'N/A' if found is None else found} in this run, which says nothing")
    return float(found)


def _attacks_own(spec: RunSpec) -> float:
    path = Store(spec.session.output_dir).folder(spec.signature) / "curve.csv"
    if not path.is_file():
        raise UserError(
            f"objective=attack: attack={spec.choices.get('attack')} minimises nothing that it tells of; "
            "choose a number of the record, such as objective=metrics.mse"
        )
    curve = pd.read_csv(path)
    value = next(name for name in curve.columns if name not in ("iteration", "victim"))
    return float(curve[curve["iteration"] == curve["iteration"].max()][value].mean())
