"""A table of a paper as data: rows, columns, seeds, printed numbers and claims; and the runs that fill it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from privsweep.errors import UserError
from privsweep.findings import holds
from privsweep.notation import FORMAT, UNKNOWN, Number, parse

Id = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]
FindingId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.]+$")]
Override = Annotated[str, StringConstraints(pattern=r"^[^=\s][^=\n]*=[^\n]*$")]
Metric = Annotated[str, StringConstraints(pattern=r"^\w+(\.\w+)*$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Axis(_Strict):
    """A row or a column: what it is called, what it sets, and what it reads off a record.

    ``metric`` is a name among a record's metrics or a dotted path such as ``seconds.per_victim``. Over
    seeds a ``mean`` is N/A as soon as one seed is; a ``median`` takes N/A as infinity.
    """

    label: str
    overrides: list[Override] = []
    metric: Metric | None = None
    format: Annotated[str, StringConstraints(pattern=FORMAT)] | None = None  # m:ss, .1f, .3g, .1%
    aggregate: Literal["mean", "median"] = "mean"
    better: Literal["lower", "higher"] | None = None  # for the attack
    note: str | None = None


class Finding(_Strict):
    """A claim of the paper, and whether it holds over the printed numbers (null: none are printed)."""

    id: FindingId
    claim: str
    check: str
    holds_in_print: bool | None
    note: str | None = None


@dataclass(frozen=True)
class Job:
    """One run of a table, and the cells (row, column, seed) that read it."""

    id: str
    overrides: tuple[str, ...]
    cells: tuple[tuple[str, str, int], ...]


class Table(_Strict):
    """The ``table`` of an experiment file, checked."""

    title: str
    place: str  # where the numbers are printed
    rows: Annotated[dict[Id, Axis], Field(min_length=1)]
    columns: Annotated[dict[Id, Axis], Field(min_length=1)]
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    printed: dict[Id, dict[Id, str]] = {}
    findings: list[Finding] = []
    notes: list[str] = []
    experiment: str = "table"  # its name on the command line, such as zen/table1

    @classmethod
    def from_config(cls, config: Mapping[str, Any], experiment: str = "table") -> Table:
        """Check a plain dict. Raises UserError, one line with everything that is wrong."""
        try:
            return cls.model_validate({**config, "experiment": experiment})
        except ValidationError as error:
            wrong = [".".join(["table", *map(str, e["loc"])]) + ": " + _plain(e) for e in error.errors()]
            raise UserError(f"experiment={experiment}: {'; '.join(wrong)}") from None
        except UserError as error:  # a check that is no expression
            raise UserError(f"experiment={experiment}: table.{error}") from None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for r, cells in self.printed.items():
            for c in cells:
                if r not in self.rows or c not in self.columns:
                    raise ValueError(f"printed.{r}.{c} names no cell; rows and columns must hold it")
        for kind, ids in (("finding", [f.id for f in self.findings]), ("seed", list(map(str, self.seeds)))):
            if twice := sorted({i for i in ids if ids.count(i) > 1}):
                raise ValueError(f"{kind} {', '.join(twice)} stands there twice; keep one")
        for r, row in self.rows.items():
            for c, column in self.columns.items():
                if (row.metric is None) == (column.metric is None):
                    raise ValueError(f"cell {r}, {c} reads no or two metrics; give one to the row or the column")
                keys = [_key(o) for o in (*column.overrides, *row.overrides, "seed=")]
                if twice := sorted({k for k in keys if keys.count(k) > 1}):
                    raise ValueError(f"cell {r}, {c} sets {', '.join(twice)} twice; set it in one place")
        for finding in self.findings:
            verdict = self.in_print(finding)
            if None not in (verdict, finding.holds_in_print) and verdict != finding.holds_in_print:
                raise ValueError(f"findings.{finding.id}: holds_in_print: the printed numbers say {verdict}")
        return self

    def reads(self, row: str, column: str) -> Axis:
        """Whichever of row and column names the metric of a cell."""
        return self.rows[row] if self.rows[row].metric is not None else self.columns[column]

    def holds(self, finding: Finding, cells: Mapping[tuple[str, str], Number]) -> bool | None:
        """A claim over given cells (row, column) in the printed unit; None while undecided."""
        columns = [*self.columns]
        series = [c for c in columns if any(c in cells for cells in self.printed.values())] or columns
        return holds(finding.id, finding.check, lambda r, c: cells.get((r, c), UNKNOWN), [*self.rows], columns, series)

    def in_print(self, finding: Finding) -> bool | None:
        """A claim over the printed numbers."""
        return self.holds(finding, {(r, c): parse(t) for r, cells in self.printed.items() for c, t in cells.items()})

    def keys(self) -> set[str]:
        """The configuration keys and groups that rows, columns and seeds set."""
        axes = (*self.rows.values(), *self.columns.values())
        return {_key(o) for axis in axes for o in axis.overrides} | {"seed"}

    def jobs(self, overrides: Sequence[str] = ()) -> list[Job]:
        """The distinct runs of rows x columns x seeds, seed by seed; ``overrides`` apply to every one."""
        found: dict[tuple[str, ...], tuple[str, list[str], list[tuple[str, str, int]]]] = {}
        names: set[str] = set()
        for seed in self.seeds:
            for c, column in self.columns.items():
                for r, row in self.rows.items():
                    own = [*column.overrides, *row.overrides, f"seed={seed}"]
                    if (same := tuple(sorted(own))) not in found:
                        short = r if row.overrides and not column.overrides else c
                        both = bool(row.overrides and column.overrides)
                        name = f"{r}.{c}-s{seed}" if both or f"{short}-s{seed}" in names else f"{short}-s{seed}"
                        names.add(name)
                        found[same] = (name, [*overrides, *own], [])
                    found[same][2].append((r, c, seed))
        return [Job(name, tuple(own), tuple(cells)) for name, own, cells in found.values()]


def _key(override: str) -> str:
    return re.sub(r"^[+~]+", "", override.split("=", 1)[0])


def _plain(error: Any) -> str:
    text = str(error["msg"]).removeprefix("Value error, ")
    shown = error["input"]
    return text if isinstance(shown, dict | list) else f"{text}, not {shown!r}"
