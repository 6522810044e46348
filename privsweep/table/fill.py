"""Fills a table from stored records: cells over seeds beside the printed numbers, and a verdict on every claim."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from privsweep.interface.keys import finding, without_effect
from privsweep.table.cells import Cell, cell_of_verdict, cell_over_seeds
from privsweep.table.conditions import Behind, amounts, changes
from privsweep.table.deciding import what_decides
from privsweep.table.number_format import UNKNOWN, Number
from privsweep.table.readings import read_cells
from privsweep.table.significance import Weakened
from privsweep.table.spec import Table
from privsweep.table.spread import Spread
from privsweep.table.uncertain import Place, Term
from privsweep.table.verdicts import Verdict, judged

Record = Mapping[str, Any]
_SHOWN_ELSEWHERE = frozenset({"experiment", "scale", "cell"})
_OF_ONE_RUN = frozenset({"trained_from_cache"})


@dataclass(frozen=True)
class FilledTable:
    """A table with its numbers: everything that the writers need."""

    table: Table
    scale: str
    overrides: tuple[str, ...]  # from the command line, for every cell; those that change numbers
    cells: Mapping[tuple[str, str], Cell]
    verdicts: tuple[Verdict, ...]
    problems: tuple[str, ...]  # runs that failed or lack a metric, and keys that are misnamed, one line each
    misnamed: tuple[str, ...]  # those on keys that ask for a number that no run has
    amounts: Sequence[tuple[str, str]]  # of work, examples, victims: name and value
    changes: Sequence[tuple[str, str]]  # what else is not as at the paper's scale
    environment: Mapping[str, str]  # every value that occurs among the runs
    complete: int
    jobs: int
    folders: Mapping[tuple[str, str, int], Path]  # of the complete run behind row, column and seed
    by_one_seed: bool  # whether a claim was decided by that seed alone which shows it best
    config_dir: str | None  # where else choices were found

    @property
    def command(self) -> str:
        """The command that fills the table, without devices and folders but that of the user's own choices."""
        scale = [] if self.scale == "paper" else [f"scale={self.scale}"]
        return shlex.join(
            ["privsweep", *finding(self.config_dir), f"experiment={self.table.experiment}", *scale, *self.overrides]
        )


def fill_table(
    table: Table,
    records: Mapping[str, Record | None],
    scale: str,
    overrides: Sequence[str] = (),
    folder: Callable[[str], Path] = Path,
    paper: Mapping[Behind, Mapping[str, Any]] | None = None,
    config_dir: str | None = None,
) -> FilledTable:
    """Fill the table from the store.

    ``records``: job id -> record, None where nothing is stored; ``folder``: signature -> the run's folder; ``paper``:
    cell and seed -> the configuration at the paper's scale, where that is another; ``config_dir``: where else choices
    were found.
    A cell with a seed missing or failed has no mean: its seeds are shown and counted, never averaged.
    """
    jobs = table.jobs()
    folders = {
        cell: folder(str(record.get("signature")))
        for job in jobs
        if (record := records.get(job.id)) is not None and record["status"] == "complete"
        for cell in job.cells
    }
    found = read_cells(table, records, folders)
    read = found.values
    numbers_of = {cell: _less(read, cell, table.less(*cell)) for cell in read}
    cells = {
        (r, c): cell_over_seeds(table, r, c, numbers_of.get((r, c), {}), found.failed.get((r, c), set()))
        for r, row in table.rows.items()
        for c in table.columns
        if not row.weakened
    }
    behind = {cell: record for job in jobs if (record := records.get(job.id)) for cell in job.cells if cell in folders}
    spread = Spread(table, read, behind, folders)
    cells |= {
        (r, c): cell_of_verdict(table, r, c, row.weakened, cells, _least_apart(spread, row.weakened, c))
        for r, row in table.rows.items()
        for c in table.columns
        if row.weakened
    }
    numbers = {key: _settled(table, cell) for key, cell in cells.items()}
    incomplete = {place for place, cell in cells.items() if cell.state != "complete"}
    verdicts = [judged(table, finding, numbers, spread) for finding in table.findings]
    present = [r for job in jobs if (r := records.get(job.id)) is not None and r["status"] == "complete"]
    return FilledTable(
        table=table,
        scale=scale,
        overrides=tuple(o for o in overrides if matters(o)),
        cells=cells,
        verdicts=tuple(replace(v, more=what_decides(table, v, numbers, incomplete, scale)) for v in verdicts),
        problems=(*found.misnamed, *found.problems),
        misnamed=found.misnamed,
        amounts=amounts(table, behind),
        changes=changes(table, behind, paper or {}),
        environment=_environment(present),
        complete=len(present),
        jobs=len(jobs),
        folders=folders,
        by_one_seed=spread.by_one_seed,
        config_dir=config_dir,
    )


def _least_apart(spread: Spread, weakened: Weakened, column: str) -> float:
    """The error of what two cells differ by, where that is the same under every seed."""
    slopes: dict[Term, float] = {(weakened.base, column): -1.0, (weakened.adapted, column): 1.0}
    return spread.error(slopes, strict=True) or 0.0


def _settled(table: Table, cell: Cell) -> Number:
    """What a claim reads: N/A where every seed says so, and of a curve more than one."""
    once = len(cell.values) == 1 and table.source(cell.row, cell.column).learning is not None
    reached = any(value is not None for value in cell.values.values())
    return UNKNOWN if cell.value is None and (reached or once) else cell.value


def _less(
    read: Mapping[Place, Mapping[int, float | None]], cell: Place, other: Place | None
) -> dict[int, float | None]:
    """A cell's numbers less those of another, for the seeds that have both."""
    own = dict(read[cell])
    if other is None:
        return own
    base = read.get(other, {})
    return {
        seed: None if value is None or base[seed] is None else value - base[seed]  # type: ignore[operator]
        for seed, value in own.items()
        if seed in base
    }


def _environment(records: Sequence[Record]) -> dict[str, str]:
    """Every value that occurs in the environments of several runs, once; dates and memory as a range."""
    seen: dict[str, list[str]] = {}
    for record in records:
        for key, value in record.get("environment", {}).items():
            text = _listed(value) if isinstance(value, Mapping) else str(value)
            if value is not None and text and key not in _OF_ONE_RUN and text not in seen.setdefault(key, []):
                seen[key].append(text)
    for key, order in (("date", str), ("memory_gib", float)):
        if len(values := sorted(seen.get(key, []), key=order)) > 1:
            seen[key] = [f"{values[0]} to {values[-1]}"]
    return {key: "; ".join(values) for key, values in seen.items()}


def _listed(versions: Mapping[str, object]) -> str:
    """Of what was installed: sources may run as they lie there."""
    return ", ".join(f"{name} {one}" for name, one in versions.items() if one is not None)


def matters(override: str) -> bool:
    """Whether it can change a number of a table."""
    key = override.partition("=")[0].lstrip("+~")
    return key not in _SHOWN_ELSEWHERE and not without_effect(key)
