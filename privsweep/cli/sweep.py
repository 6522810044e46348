"""Sweeps: a table's cells or an ad hoc product become runs, checked before anything starts; stored runs are reused."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.types import Override
from pydantic import TypeAdapter, ValidationError

from privsweep.cli.cells import Cells, configs_of, key_of, of_cells, without_parameters
from privsweep.cli.combinations import applied, distinct, expand
from privsweep.cli.search_space import (
    aimless,
    check_fractions,
    check_objectives,
    check_seeds,
    check_swept,
    check_typed,
    ends,
    searches,
    values_of,
)
from privsweep.cli.summary_checks import check_cells, check_numbers, check_summary
from privsweep.interface.errors import AbsentError, UserError
from privsweep.run.compose import Composition, compose, parse, searching
from privsweep.run.unread import unread
from privsweep.run.variants import Variants
from privsweep.store.checksums import postponed
from privsweep.store.store import Record, Store, signature
from privsweep.store.sweeps import Stamps, stamps
from privsweep.table.conditions import Behind
from privsweep.table.spec import Table

if TYPE_CHECKING:  # a request that cannot be composed is refused without PyTorch
    from privsweep.run.build import Made
    from privsweep.run.run_spec import RunSpec


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    name: str
    overrides: tuple[str, ...]
    spec: RunSpec
    record: Record | None  # what the store has: complete, failed or nothing
    before: Stamps  # when that was written

    @property
    def complete(self) -> bool:
        return self.record is not None and self.record["status"] == "complete"

    @property
    def missing(self) -> bool:
        return self.spec.session.force or not self.complete


@dataclass(frozen=True)
class SweepPlan:
    """A whole sweep, checked before anything runs."""

    runs: list[PlannedRun]
    table: Table | None = None
    name: str = ""  # of the table, such as zen/table1
    typed: tuple[Override, ...] = ()  # on the command line
    hydra: Mapping[str, Any] = field(default_factory=dict)  # Hydra's own part of the first composition
    absent: tuple[str, ...] = ()  # datasets that cells were left out for, in one line each
    search: bool = False  # the sweeper chooses values as it goes: ``runs`` are the ends of what it chooses from
    config_dir: str | None = None
    multirun: bool = False  # -m was typed
    unset: Sequence[str] = ()  # what was typed and goes with some runs only, or with none, in words
    backwards: bool = False  # from the last run to the first, for another process began at the first

    @property
    def missing(self) -> list[PlannedRun]:
        """Runs to do, each once; the first of every distinct trained system come first, so that none waits."""
        todo = list({run.spec.signature: run for run in reversed(self.runs) if run.missing}.values())[::-1]
        seen: set[str] = set()
        rank = {}
        for run in todo:
            key = signature(run.spec.training_key(run.spec.session.resolve_device()))
            rank[run.name] = key in seen
            seen.add(key)
        ordered = sorted(todo, key=lambda run: rank[run.name])
        return ordered[::-1] if self.backwards else ordered

    @property
    def swept(self) -> list[str]:
        """The keys that take several values."""
        return [key_of(o) for o in self.typed if o.is_sweep_override()]

    def typed_but(self, *keys: str) -> list[str]:
        """What was typed, but for ``keys``."""
        return [str(o.input_line) for o in self.typed if key_of(o) not in keys]

    def for_hydra(self, cells: Collection[str]) -> list[str]:
        """What Hydra's sweeper is given: what was typed, and the cells to run of a table.

        Without the defences' parameters then, for only cells have the defences; jobs know what their cell sets.
        """
        folder = self.sweep_dir.replace("\\", "\\\\").replace("'", "\\'")
        own = [f"hydra.sweep.dir='{folder}'"]  # whatever the time is when a job begins
        if not cells:
            return [*self.typed_but("hydra.sweep.dir"), *own]
        kept = (str(o.input_line) for o in self.typed if not of_cells(o) and key_of(o) != "hydra.sweep.dir")
        return [*kept, *own, f"cell={','.join(cells)}"]

    @property
    def sweep_dir(self) -> str:
        """Where the sweep logs."""
        return str(self.hydra["sweep"]["dir"])

    @property
    def launcher(self) -> str:
        """As it was chosen, on the command line or by an experiment."""
        return str(self.hydra["runtime"]["choices"]["hydra/launcher"])

    @property
    def said(self) -> list[str]:
        """What was typed of what is run, but for the experiment; what is typed for Hydra alone may hold secrets."""
        left_out = ("experiment", "cell", "force", "wait", "fail_fast", "at_once", "output_dir", "summary")
        return [str(o.input_line) for o in self.typed if key_of(o) not in left_out and not o.is_hydra_override()]

    def records(self) -> dict[str, Record | None]:
        return {run.name: run.record for run in self.runs}

    def shared(self) -> SweepPlan:
        """From the other end where another process is at one of the runs: the two meet in the middle."""
        store = Store(self.runs[0].spec.session.output_dir)
        return replace(self, backwards=any(store.in_work(run.spec.signature) for run in self.missing))

    def at_papers_scale(self) -> dict[Behind, dict[str, Any]]:
        """The configuration of a table's cells at the paper's scale; nothing where that is theirs. Raises UserError."""
        if self.table is None or self.runs[0].spec.session.scale == "paper":
            return {}
        with searching(self.config_dir):
            return configs_of(self.typed_but("cell", "scale", "table.seeds"), self.name, self.table.seeds)

    def looked_up(self) -> SweepPlan:
        """With the records that the store has by now."""
        return replace(self, runs=[replace(run, record=_record(run.spec)) for run in self.runs])


def plan(overrides: Sequence[str], config_dir: str | None, multirun: bool, running: bool = True) -> SweepPlan:
    """Composes, builds and looks up every run. Raises UserError, before any work, for the first that does not fit.

    Where nothing will be run, nothing is downloaded either, and a table does without the cells whose dataset is not
    there and was never seen, unless that leaves none.
    """
    with searching(config_dir):
        typed = tuple(parse(overrides))
        if any(key_of(o) == "cell" for o in typed):
            raise UserError("cell: is set by privsweep itself; to run a part of a table, type 'only=[column,row]'")
        check_swept(typed)
        check_typed(typed)
        plain = tuple(values_of(override)[0] for override in typed) if multirun else tuple(overrides)
        plain, _ = applied(plain, typed)
        first = compose(without_parameters(plain))
        if search := multirun and searches(first.hydra):
            check_seeds(typed)
        combinations = [plain] if not multirun else ends(typed) if search else expand(typed)
        check_summary(typed, multirun and not search and not first.config.get("table"))
        asked, running = running, running and not _true(first.config["plan"])
        if first.config.get("table"):
            if len(combinations) > 1 or search:
                raise UserError("experiment: a table is a sweep already; give it single values, or sweep without it")
            made_plan = replace(_table_plan(first, typed, running), config_dir=config_dir, multirun=multirun)
            if asked:
                check_cells(made_plan)
            unset = unread((run.spec for run in made_plan.runs), typed) + aimless(typed, first.hydra)
            return replace(made_plan, unset=unset)
        places, unset = distinct(combinations, typed)
        begin = next(iter(places))
        if first.overrides != begin:  # an experiment, but no table
            first = compose(begin)
        variants = Variants()
        made: Made = {}
        composed = (first if own == begin else variants.compose(own) for own in places)
        runs = [_planned(str(n), one, running, made) for n, one in zip(places.values(), composed, strict=True)]
        if search:
            check_fractions(typed, lambda own: _planned("0", variants.compose(applied(own, typed)[0]), running, made))
            check_objectives([(one.spec, one.record) for one in runs], typed)
        elif multirun:
            check_numbers(runs)
    unset += unread((run.spec for run in runs), typed) + aimless(typed, first.hydra)
    return SweepPlan(
        runs, typed=typed, hydra=first.hydra, search=search, config_dir=config_dir, multirun=multirun, unset=unset
    )


def _table_plan(base: Composition, typed: tuple[Override, ...], running: bool) -> SweepPlan:
    name = base.choices.get("experiment") or "table"
    table = Table.from_config(base.config["table"], name, base.config.get("figure"))
    clash = sorted({key_of(o) for o in typed} & table.keys())
    if clash:
        raise UserError(f"{clash[0]}: rows and columns of the table set it, so it cannot be overridden; leave it out")
    wanted = table.chosen(base.config.get("only"))
    cells = Cells(base, typed)
    cells.check(table.jobs())
    runs, refused = [], []
    made: Made = {}
    for job in table.jobs():
        chosen = any((row, column) in wanted for row, column, _ in job.cells)
        try:
            run = _planned(job.id, cells.compose(job), chosen and running, made)
        except AbsentError as error:
            if chosen and running:
                raise
            refused.append(error)
            continue
        if chosen or not run.missing:
            runs.append(run)
    if not runs and refused:
        raise refused[0]
    return SweepPlan(runs, table, name, typed, base.hydra, tuple(dict.fromkeys(str(e.__cause__) for e in refused)))


def _true(value: Any) -> bool:
    """However it is written, as yes or 1; what is neither true nor false is refused where it is built."""
    try:
        return TypeAdapter(bool).validate_python(value)
    except ValidationError:
        return False


def _record(spec: RunSpec) -> Record | None:
    return Store(spec.session.output_dir).record(spec.signature)


def _planned(name: str, composed: Composition, fetch: bool, made: Made) -> PlannedRun:
    """``made``: components of the plan so far."""
    from privsweep.run.build import build

    try:
        spec = build(composed, fetch, made)
    except UserError as error:
        raise type(error)(*(line if name.isdigit() else f"{name}: {line}" for line in error.args)) from error
    before = stamps(spec.session.output_dir, spec.signature)
    return PlannedRun(name, composed.overrides, spec, _record(spec), before)


def stored(experiment: str, overrides: Sequence[str] = (), config_dir: str | None = None) -> SweepPlan:
    """A table and the records that the store has for it; nothing is run."""
    with postponed():
        made = plan([f"experiment={experiment}", *overrides], config_dir, multirun=False, running=False)
    if made.table is None:
        raise UserError(f"experiment={experiment}: is no table; choose one that has rows and columns")
    return made
