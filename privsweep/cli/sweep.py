"""Sweeps: a table's cells or an ad hoc product become Hydra jobs; what is stored is not run again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from privsweep.interface.data import Data, ImageSet
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.randomness import Rng
from privsweep.run.build import build
from privsweep.run.compose import Composition, compose, searching
from privsweep.run.run import check, prior_of
from privsweep.run.run_spec import RunSpec
from privsweep.store.checksums import at_hand
from privsweep.store.store import Record, Store, signature
from privsweep.table.spec import Job, Table

DEFENSE_PARAMETER = re.compile(r"\+{0,2}defense\.(\w+)\.")
ATTACK_PARAMETER = re.compile(r"\+{0,2}attack\.")


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep."""

    name: str
    overrides: tuple[str, ...]
    spec: RunSpec
    record: Record | None  # what the store has: complete, failed or nothing

    @property
    def missing(self) -> bool:
        return self.spec.session.force or self.record is None or self.record["status"] != "complete"


@dataclass(frozen=True)
class SweepPlan:
    """A whole sweep, checked before anything runs."""

    runs: list[PlannedRun]
    table: Table | None = None
    name: str = ""  # of the spec, such as zen/table1
    overrides: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()  # datasets that cells were left out for, in one line each

    @property
    def missing(self) -> list[PlannedRun]:
        """Runs to do; the first of every distinct trained system comes first, so that none waits for another."""
        todo = [run for run in self.runs if run.missing]
        seen: set[str] = set()
        rank = {}
        for run in todo:
            key = signature(run.spec.training_key(run.spec.session.resolve_device()))
            rank[run.name] = key in seen
            seen.add(key)
        return sorted(todo, key=lambda run: rank[run.name])

    def records(self) -> dict[str, Record | None]:
        return {run.name: run.record for run in self.runs}


def expand(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """The product of the swept values, in the order of Hydra's basic sweeper."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    product: list[tuple[str, ...]] = [()]
    for text, override in zip(overrides, parsed, strict=True):
        if override.is_sweep_override():
            key = override.get_key_element()
            values = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            values = [text]
        product = [(*done, value) for done in product for value in values]
    return product


def _compose_first(overrides: Sequence[str], extra: Sequence[str] = ()) -> Composition:
    """Without defences' parameters where there is an spec: which cells have the defence is not known yet."""
    has_experiment = any(o.startswith("experiment=") for o in overrides)
    return compose([o for o in overrides if not (has_experiment and DEFENSE_PARAMETER.match(o))], extra)


def swept(overrides: Sequence[str]) -> list[str]:
    """The keys that take several values."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [o.get_key_element().lstrip("+~") for o in parsed if o.is_sweep_override()]


def without(overrides: Sequence[str], keys: Sequence[str]) -> list[str]:
    """The overrides but for those of ``keys``."""
    return [o for o in overrides if o.lstrip("+").partition("=")[0] not in keys]


def plan(overrides: Sequence[str], config_dir: str | None, multirun: bool, running: bool = True) -> SweepPlan:
    """Composes, builds and looks up every run. Raises UserError, before any work, for the first that does not fit.

    Where nothing will be run, nothing is downloaded either, and a table does without the cells whose dataset is not
    there and was never seen, unless that leaves none.
    """
    try:
        combinations = expand(overrides) if multirun else [tuple(overrides)]
    except HydraException as error:
        raise UserError(f"{error}".splitlines()[0]) from error
    with searching(config_dir) as extra:
        first = _compose_first(combinations[0], extra)
        running = running and first.config["plan"] is not True
        if first.config.get("table"):
            if len(combinations) > 1:
                raise UserError("experiment: a table is a sweep already; give it single values, or sweep without it")
            return _table_plan(first, overrides, extra, running)
        rest = (compose(c, extra) for c in combinations[1:])
        runs = [_planned(str(n), composed, running) for n, composed in enumerate([first, *rest])]
    return SweepPlan(runs, overrides=tuple(overrides))


def _table_plan(base: Composition, overrides: Sequence[str], extra: Sequence[str], running: bool) -> SweepPlan:
    name = base.choices.get("experiment") or "table"
    table = Table.from_config(base.config["table"], name, base.config.get("figure"))
    mine = {o.lstrip("+~").partition("=")[0].partition("@")[0] for o in overrides}
    clash = sorted(mine & table.keys())
    if clash:
        raise UserError(f"{clash[0]}: rows and columns of the table set it, so it cannot be overridden; leave it out")
    wanted = table.chosen(base.config.get("only"))
    runs, refused = [], []
    for job in table.jobs():
        chosen = any(column in wanted for _, column, _ in job.cells)
        try:
            run = _planned(job.id, compose_cell(overrides, job, extra), chosen and running)
        except AbsentError as error:
            if chosen and running:
                raise
            refused.append(error)
            continue
        if chosen or not run.missing:
            runs.append(run)
    if not runs and refused:
        raise refused[0]
    absent = dict.fromkeys(str(error.__cause__) for error in refused)
    return SweepPlan(runs, table, name, tuple(overrides), tuple(absent))


def compose_cell(overrides: Sequence[str], job: Job, extra: Sequence[str] = ()) -> Composition:
    """The spec, the command line and the cell.

    A defence's parameter applies where the defence is present, an attack's where the cell's attack has it.
    """
    given = without(overrides, ["cell"])
    theirs = [o for o in given if ATTACK_PARAMETER.match(o)]
    if theirs and any(o.startswith("attack=") for o in job.overrides):
        others = [o for o in (*given, *job.overrides) if o not in theirs and not DEFENSE_PARAMETER.match(o)]
        known = compose(others, extra).config["attack"]
        given = [o for o in given if o not in theirs or re.split(r"[.=]", o)[1] in known]
    typed = [*given, *job.overrides]
    special = [o for o in typed if DEFENSE_PARAMETER.match(o)]
    plain = [o for o in typed if o not in special]
    if not special:
        return compose(plain, extra)
    chosen = [o.partition("=")[2] for o in plain if o.startswith("defense=")]
    present = re.findall(r"\w+", chosen[-1]) if chosen else compose(plain, extra).config["defense"] or {}
    apply = [o for o in special if DEFENSE_PARAMETER.match(o)[1] in present]  # type: ignore[index]
    return compose([*plain, *apply], extra)


def acceptable(arguments: Sequence[str]) -> list[str]:
    """Hydra composes the experiment without any cell, where a defence's parameter must be forced in."""
    return [f"++{a.lstrip('+')}" if DEFENSE_PARAMETER.match(a) else a for a in arguments]


def compose_named_cell(overrides: Sequence[str], cell: str) -> Composition:
    """In a Hydra job: the composition of one cell of the experiment that ``overrides`` name."""
    base = _compose_first(without(overrides, ["cell"]))
    if not base.config.get("table"):
        raise UserError(f"cell={cell}: there is no table; cells belong to experiment=...")
    jobs = {job.id: job for job in Table.from_config(base.config["table"]).jobs()}
    if cell not in jobs:
        raise UserError(f"cell={cell}: the table has no such cell; plan=true lists them")
    return compose_cell(overrides, jobs[cell])


def _planned(name: str, composed: Composition, fetch: bool) -> PlannedRun:
    try:
        spec = build(composed, fetch)
    except UserError as error:
        prefix = f"{name}: " if not name.isdigit() else ""
        raise type(error)("\n".join(prefix + line for line in str(error).splitlines())) from error
    record = Store(spec.session.output_dir).record(spec.signature)
    return PlannedRun(name, composed.overrides, spec, record)


def check_data(planned: SweepPlan) -> None:
    """Refuses, before anything runs, what does not fit its data. A dataset is loaded once, and fetched if need be.

    Where nothing will run, what is not at hand goes unchecked.
    """
    loaded: dict[str, Data] = {}
    priors: dict[str, ImageSet | None] = {}
    for run in planned.missing:
        spec = run.spec
        if spec.session.plan and not all(at_hand(d) for d in (spec.dataset, spec.prior) if d is not None):
            continue
        key = signature({"dataset": spec.config["dataset"], "seed": spec.session.seed})
        rng = Rng(spec.session.seed)
        if key not in loaded:
            loaded.clear()  # one at a time: runs of a dataset mostly stand together
            priors.clear()
            loaded[key] = spec.dataset.load(rng.child("dataset"))
        own = signature({"prior": spec.config["prior"]})
        try:
            if own not in priors:
                priors[own] = prior_of(spec, loaded[key], rng)
            check(spec, loaded[key], priors[own], rng)
        except UserError as error:
            raise UserError(f"{' '.join(run.overrides)}: {error}") from error


def stored(experiment: str, overrides: Sequence[str] = (), config_dir: str | None = None) -> SweepPlan:
    """A table and the records that the store has for it; nothing is run."""
    made = plan([f"experiment={experiment}", *overrides], config_dir, multirun=False, running=False)
    if made.table is None:
        raise UserError(f"experiment={experiment}: is no table; choose one that has rows and columns")
    return made
