"""A table of a paper as data: rows, columns, seeds, printed numbers and claims; and the runs that fill it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from privsweep.interface.errors import UserError
from privsweep.table.claims import holds
from privsweep.table.figure_spec import Figure
from privsweep.table.number_format import UNKNOWN, Number, parse
from privsweep.table.parts import Finding, Job, Note, Override, RowOrColumn
from privsweep.table.strict import Id, Strict
from privsweep.table.uncertain import Noise, Place, Uncertain

_ATTACK = re.compile(r"[+~]*attack[.=]")


class Table(Strict):
    """The ``table`` of an experiment file, checked."""

    title: str
    place: str  # where the numbers are printed
    rows: Annotated[dict[Id, RowOrColumn], Field(min_length=1)]
    columns: Annotated[dict[Id, RowOrColumn], Field(min_length=1)]
    cells: dict[Id, dict[Id, list[Override]]] = Field(default_factory=dict)  # row -> column -> overrides
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    printed: dict[Id, dict[Id, str]] = Field(default_factory=dict)
    findings: list[Finding] = Field(default_factory=list)
    notes: list[Note] = Field(default_factory=list)
    figure: Figure | None = None  # drawn from the same runs
    experiment: str = "table"  # its name on the command line, such as zen/table1

    @classmethod
    def from_config(
        cls, config: Mapping[str, Any], experiment: str = "table", figure: Mapping[str, Any] | None = None
    ) -> Table:
        """Check plain dicts: an experiment's ``table`` and ``figure``.

        Raises UserError, one line with everything that is wrong.
        """
        for key, remedy in (("figure", "move it one level up, beside table"), ("experiment", "the file's name counts")):
            if key in config:
                raise UserError(f"experiment={experiment}: table.{key}: no such key; {remedy}")
        try:
            table = cls.model_validate({**config, "figure": figure, "experiment": experiment})
        except ValidationError as error:
            wrong = [f"{_place(e['loc'])}: {_plain(e)}" for e in error.errors()]
            raise UserError(f"experiment={experiment}: {'; '.join(wrong)}") from None
        except UserError as error:  # a check that is not an expression
            raise UserError(f"experiment={experiment}: table.{error}") from None
        _ = table.path  # refuses the name before any work
        return table

    @property
    def path(self) -> Path:
        """Where its files go, below the folder of tables. Raises UserError for a name that leads out of that folder."""
        path = Path(self.experiment)
        if path.is_absolute() or ".." in path.parts or not path.name:
            raise UserError(f"experiment={self.experiment}: leads out of the output folder; rename the experiment")
        return path

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for what, named in (("printed", self.printed), ("cells", self.cells)):
            for r, cells in named.items():
                for c in cells:
                    if r not in self.rows or c not in self.columns:
                        raise ValueError(f"{what}.{r}.{c} names no cell; use the ids of rows and columns")
        for kind, ids in (("finding", [f.id for f in self.findings]), ("seed", list(map(str, self.seeds)))):
            if twice := sorted({i for i in ids if ids.count(i) > 1}):
                raise ValueError(f"{kind} {', '.join(twice)} is given twice; keep one")
        for r, row in self.rows.items():
            if fault := self._fault_of_verdict(r):
                raise ValueError(fault)
            for c, column in self.columns.items():
                if row.readings + column.readings != 1:
                    raise ValueError(f"cell {r}, {c} must read one number; give its row or its column a metric")
                source, others = self.source(r, c), self.columns if row.readings else self.rows
                if source.minus is not None and source.minus not in others:
                    kind = "column" if row.readings else "row"
                    raise ValueError(f"cell {r}, {c}: minus={source.minus}: the table has no such {kind}")
                reading = source.learning
                if reading and reading.reach_share is not None and column.baseline not in self.columns:
                    raise ValueError(f"columns.{c}.baseline={column.baseline}: {r} needs a baseline; name a column")
                keys = [_key(o) for o in (*self.overrides(r, c), "seed=")]
                if twice := sorted({k for k in keys if keys.count(k) > 1}):
                    raise ValueError(f"cell {r}, {c} sets {', '.join(twice)} twice; set it in one place")
        if self.figure and (fault := self.figure.fault(self.rows, self.columns)):
            raise ValueError(fault)
        for finding in self.findings:
            verdict = self.in_print(finding)
            if None not in (verdict, finding.holds_in_print) and verdict != finding.holds_in_print:
                raise ValueError(f"findings.{finding.id}: holds_in_print: the printed numbers give {verdict}")
            if finding.presupposes is not None and self._in_print(finding.id, finding.presupposes) is False:
                raise ValueError(f"findings.{finding.id}: presupposes: does not hold over the printed numbers")
            if finding.explained is not None:
                self._in_print(finding.id, finding.explained.check)  # refuses what is no check
        return self

    def _fault_of_verdict(self, r: str) -> str | None:
        """What keeps a row from comparing two others, or None."""
        judged = self.rows[r].weakened
        for side in (judged.base, judged.adapted) if judged else ():
            if side not in self.rows or self.rows[side].metric is None or self.rows[side].better is None:
                return f"rows.{r}.weakened: {side} must be a row that has 'metric' and 'better'"
        return None

    def source(self, row: str, column: str) -> RowOrColumn:
        """Whichever of row and column says what a cell shows."""
        return self.rows[row] if self.rows[row].readings else self.columns[column]

    def less(self, row: str, column: str) -> Place | None:
        """The cell that is taken off what a cell reads; None where nothing is."""
        other = self.source(row, column).minus
        if other is None:
            return None
        return (row, other) if self.rows[row].readings else (other, column)

    def answer(self, row: str, column: str) -> str | None:
        """Which of an attack's answers a cell shows; None: that which it stands by."""
        return self.rows[row].answer or self.columns[column].answer

    def metric(self, row: str, column: str) -> str:
        """The name under which a record has the cell's number."""
        name, answer = str(self.source(row, column).metric), self.answer(row, column)
        return name if answer is None or "." in name else f"{name}_{answer}"

    def notes_at(self, scale: str) -> list[str]:
        """The notes, without those that speak of other scales."""
        by_scale = [{scale: note} if isinstance(note, str) else note for note in self.notes]
        return [texts[scale] for texts in by_scale if scale in texts]

    def overrides(self, row: str, column: str) -> list[str]:
        """What a cell overrides; a row with ``attack=none`` ignores the attack that its column names."""
        own, across = self.columns[column].overrides, self.rows[row].overrides
        if "attack=none" in across:
            own = [o for o in own if not _ATTACK.match(o)]
        return [*own, *across, *self.cells.get(row, {}).get(column, [])]

    def holds(self, name: str, check: str, cells: Mapping[Place, Number], noise: Noise | None = None) -> bool | None:
        """A claim over given cells (row, column) in the printed unit; None while undecided.

        ``noise``: how uncertain the cells are; None: they count as exact.
        """

        def cell(row: str, column: str) -> Number | Uncertain:
            value = cells.get((row, column), UNKNOWN)
            if noise is None or not isinstance(value, float):
                return value
            return Uncertain(value, {(row, column): 1.0}, noise)

        columns = [*self.columns]
        series = [c for c in columns if any(c in cells for cells in self.printed.values())] or columns
        return holds(name, check, cell, [*self.rows], columns, series)

    def in_print(self, finding: Finding) -> bool | None:
        """A claim over the printed numbers; where it also reads cells without one, what the finding says of print."""
        computed = self._in_print(finding.id, finding.check)
        return finding.holds_in_print if computed is None else computed

    def _in_print(self, name: str, check: str) -> bool | None:
        cells = {(r, c): parse(text) for r, texts in self.printed.items() for c, text in texts.items()}
        return self.holds(name, check, cells)

    def chosen(self, only: Sequence[str] | None) -> set[Place]:
        """The cells to run: of the columns and of the rows that ``only`` names, of all where it names none of a kind.

        What names both is a column. Raises UserError for what names neither.
        """
        strange = [only] if isinstance(only, str) else [n for n in only or [] if n not in {*self.columns, *self.rows}]
        if strange:
            ids = f"{', '.join(self.columns)} and {', '.join(self.rows)}"
            raise UserError(f"only={strange[0]}: give a list of columns or rows, of {ids}")
        columns = {name for name in only or [] if name in self.columns}
        rows = {*(only or [])} - columns
        return {(r, c) for r in rows or self.rows for c in columns or self.columns}

    def keys(self) -> set[str]:
        """The configuration keys and groups that rows, columns and seeds set."""
        axes = (*self.rows.values(), *self.columns.values())
        own = [o for cells in self.cells.values() for overrides in cells.values() for o in overrides]
        return {_key(o) for o in [*own, *(o for axis in axes for o in axis.overrides)]} | {"seed"}

    def jobs(self, overrides: Sequence[str] = ()) -> list[Job]:
        """The distinct runs of rows x columns x seeds, seed by seed; ``overrides`` apply to every one."""
        found: dict[tuple[str, ...], tuple[str, list[str], list[tuple[str, str, int]]]] = {}
        names: set[str] = set()
        for seed in self.seeds:
            for c, column in self.columns.items():
                for r, row in self.rows.items():
                    if row.weakened:
                        continue
                    own = [*self.overrides(r, c), f"seed={seed}"]
                    if (same := tuple(sorted(own))) not in found:
                        short = r if row.overrides and not column.overrides else c
                        both = bool(row.overrides and column.overrides) or r in self.cells
                        name = f"{r}.{c}-s{seed}" if both or f"{short}-s{seed}" in names else f"{short}-s{seed}"
                        names.add(name)
                        found[same] = (name, [*overrides, *own], [])
                    found[same][2].append((r, c, seed))
        return [Job(name, tuple(own), tuple(cells)) for name, own, cells in found.values()]


def _key(override: str) -> str:
    return re.sub(r"^[+~]+", "", override.split("=", 1)[0])


def _place(path: Sequence[str | int]) -> str:
    """The key that is wrong; pydantic puts the kind of a figure among its keys."""
    if path[:1] == ("figure",):
        return ".".join(map(str, (path[0], *path[2:])))
    return ".".join(map(str, ("table", *path)))


_MEANT = {
    "title": "what stands above the table",
    "place": 'where its numbers are printed, or "ours"',
    "id": "a short name of the claim",
    "claim": "the claim in words",
    "check": "the claim over cells, such as v('row', 'a') < v('row', 'b')",
    "holds_in_print": "true, false, or null where nothing is printed",
    "label": "what stands beside or above it",
    "seeds": "a list, such as [0, 1, 2]",
}


def _plain(error: Any) -> str:
    if error["type"] == "missing":
        meant = _MEANT.get(str(error["loc"][-1]))
        return "has no value; set it" + (f": {meant}" if meant else "")
    text = str(error["msg"]).removeprefix("Value error, ")
    shown = error["input"]
    said = isinstance(shown, dict | list) or error["type"] == "no_such_key"
    return text if said else f"{text}, not {shown!r}"
