"""What ``plan=true`` shows: the runs of a sweep, what is stored of them, and what the others will cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape

from privsweep.cli import terminal
from privsweep.cli.at_once import Share
from privsweep.cli.sweep import PlannedRun, SweepPlan
from privsweep.interface.printable import printable
from privsweep.run.estimate import Estimate, Estimator
from privsweep.store.store import Store, signature

UNKNOWN = "no record to judge by"


@dataclass(frozen=True)
class Line:
    """A run of the plan, with all the cells that show it."""

    run: PlannedRun
    cells: list[str]
    system: str
    role: str  # what it does with the trained system
    estimate: Estimate | None  # None where nothing is to do

    @property
    def seconds(self) -> float | None:
        return self.estimate.seconds(self.role == "trains") if self.estimate else 0.0


def lines(planned: SweepPlan) -> list[Line]:
    """One line a run; the first to do of those that share a system trains it, unless it is stored."""
    session = planned.runs[0].spec.session
    store = Store(session.output_dir)
    todo = {run.name for run in planned.missing}
    estimator = Estimator(store.records()) if todo else None
    cells: dict[str, list[str]] = {}
    for run in planned.runs:
        cells.setdefault(run.spec.signature, []).append(run.name)
    first = {names[0] for names in cells.values()}
    trained: set[str] = set()
    made = []
    for run in planned.runs:
        if run.name not in first:
            continue
        key = run.spec.training_key(session.resolve_device())
        system, role = signature(key), "has" if store.trained(key) else "shares"
        if run.name in todo and role == "shares" and system not in trained:
            role = "trains"
            trained.add(system)
        estimate = estimator(run.spec) if estimator and run.name in todo else None
        made.append(Line(run, cells[run.spec.signature], system, role, estimate))
    return made


def show(planned: SweepPlan, unchecked: Sequence[str]) -> None:
    """Prints the plan: a line for each run, and what all of it will take.

    ``unchecked``: why runs were not checked against their data, one line each.
    """
    if planned.search:
        trials = planned.hydra["sweeper"]["n_trials"]
        count = f"{trials} trial{'s' * (trials != 1)}"
        terminal.say(f"a search of {count} chooses its values as it goes; what is checked are these ends:")
    found, typed = lines(planned), planned.typed_but()
    untold = [o for o in typed if o.partition("=")[0] in ("plan", "summary")]  # of the command, not of a run
    for line in found:
        named = f"{', '.join(line.cells)}: " if planned.table else ""
        state = "to run" if line.estimate else "stored"
        if line.run.record and line.run.record["status"] != "complete":
            state = f"{line.run.record['status']} before, to run"
        cost = _cost(line) if line.estimate else ""
        given = " ".join(o for o in line.run.overrides if o not in (typed if planned.table else untold))
        terminal.say(f"{line.run.spec.signature}  {state:8}  {cost:24}  {named}{given}")
    todo = [line for line in found if line.estimate]
    cells = sum(len(line.cells) for line in found)
    count = f"{len(found)} run{'s' * (len(found) != 1)}"
    terminal.say(f"{count}, {len(todo)} to do" + (f"; they fill {cells} cells" if cells > len(found) else ""))
    if todo:
        share = Share.of([line.run.spec for line in todo])
        _total(todo, share.at_once(len(todo)) if planned.launcher == "basic" else 1)
    for what, reasons in (("left out", planned.absent), ("not checked against its data", unchecked)):
        for reason in reasons:
            terminal.err.print(f"{what}: {escape(printable(reason))}", soft_wrap=True)


def _total(todo: list[Line], at_once: int) -> None:
    systems = {line.system for line in todo}
    training = sum(line.role == "trains" for line in todo)
    terminal.say(f"trained systems: {len(systems)}, of which {len(systems) - training} are stored")
    known = [line.seconds for line in todo if line.seconds is not None]
    blind = len(todo) - len(known)
    missing = f"; for {blind} of {len(todo)} runs there is {UNKNOWN}" if blind else ""
    memory = [line.estimate.memory for line in todo if line.estimate and line.estimate.memory is not None]
    peak = f", {max(memory):.1f} GiB at the peak" if memory else ""
    if known:
        took = f"{duration(sum(known))} one after another"
        took += f", {duration(sum(known) / at_once)} with {at_once} at once" if at_once > 1 else ""
        terminal.say(f"estimate, judged by stored runs: {took}{peak}{missing}")
    else:
        terminal.say(f"estimate: {UNKNOWN}")


def _cost(line: Line) -> str:
    memory = f", {line.estimate.memory:.1f} GiB" if line.estimate and line.estimate.memory is not None else ""
    return UNKNOWN if line.seconds is None else f"{duration(line.seconds)}{memory}"


def duration(seconds: float) -> str:
    """In the unit that suits, such as 3 min."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
