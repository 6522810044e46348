"""What a sweep is asked to show, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.override_parser.types import Override

from privsweep.cli.cells import key_of
from privsweep.interface.errors import UserError

if TYPE_CHECKING:
    from privsweep.cli.sweep import PlannedRun, SweepPlan
    from privsweep.run.run_spec import RunSpec


def check_summary(typed: Sequence[Override], summarised: bool) -> None:
    """Raises UserError where it would show nothing, or be taken for values to sweep over."""
    for override in typed:
        if key_of(override) == "summary" and (not summarised or override.is_sweep_override()):
            remedy = "write 'summary=[a,b]'" if summarised else "add -m key=a,b, or leave it out"
            raise UserError(f"{override.input_line}: is what the summary of a sweep shows; {remedy}")


def check_numbers(runs: Sequence[PlannedRun]) -> None:
    """Raises UserError for the first number of the summary that no run can have."""
    from privsweep.report.summary import number_of
    from privsweep.run.reported import can_report, nearest_number
    from privsweep.table.number_format import UNKNOWN

    for name in runs[0].spec.session.summary or ():
        stored = [run.record for run in runs if run.record is not None and run.complete]
        told = any(number_of(record, name) is not UNKNOWN for record in stored)
        if not (told or any(can_report(run.spec, name) for run in runs if run.missing)):
            near = nearest_number(name, [run.spec for run in runs])
            raise UserError(f"summary=[{name}]: no run of this sweep can have such a number; {near}")


def check_cells(planned: SweepPlan) -> None:
    """Raises UserError for the first row or column of a table whose number none of its runs can have.

    Nothing is said of one that runs which are left out, for want of data or by ``only``, may fill.
    """
    from privsweep.run.reported import can_report, nearest_number

    assert planned.table is not None
    table, specs = planned.table, {run.name: run.spec for run in planned.runs}
    asked: dict[str, tuple[str, list[RunSpec | None]]] = {}
    for job in table.jobs():
        for row, column, _ in job.cells:
            source = table.source(row, column)
            if source.learning is None:
                axis = f"table.rows.{row}" if table.rows[row].readings else f"table.columns.{column}"
                name = table.metric(row, column)
                asked.setdefault(f"{axis}.metric={source.metric}", (name, []))[1].append(specs.get(job.id))
    for key, (name, own) in asked.items():
        known = [spec for spec in own if spec is not None]
        if len(known) == len(own) and not any(can_report(spec, name) for spec in known):
            raise UserError(f"{key}: none of its runs can have such a number; {nearest_number(name, known)}")
