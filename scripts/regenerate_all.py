"""All tables and figures anew: ``outputs/paper/`` out of nothing, except for runs that are stored.

    python scripts/regenerate_all.py scale=quick data_dir=/scratch/data            # everything
    python scripts/regenerate_all.py zen precode/table1 scale=quick                # a paper, and a table of another

Words name papers or tables, every key=value is given to each ``privsweep experiment=...``. What the table in the
repository's ``outputs/paper/`` was typed with, as its *Conditions* tell, is given, too, unless that key is typed anew.
The runs behind a table are packed beside it, so that it can be laid out again without computing (``privsweep-store``).
Columns whose data are not in ``data_dir`` are said and left out (``privsweep-data`` downloads data first). A table that
fails does not stop the others; the same command goes on where it was stopped. Where results go to the repository's
``outputs``, the README's table of claims is written at the end.

Exit codes: 0 all done, 1 a table failed or is not complete, 2 the request was refused.
"""

from __future__ import annotations

import argparse
import glob
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from privsweep.cli import sweep
from privsweep.cli.plan import duration
from privsweep.cli.tables import tables_in
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.printable import printable
from privsweep.report.write import name_at, path_of, write
from privsweep.run.compose import CONF
from privsweep.store.checksums import at_hand
from privsweep.store.packed import SUFFIX, pack
from privsweep.store.store import Store
from privsweep.table.fill import fill_table, matters

from status_table import ROOT, typed_besides
from status_table import write as write_status

Launch = Callable[[Sequence[str], Path], int]  # arguments of privsweep, and a file for what it prints; the exit code


@dataclass(frozen=True)
class Todo:
    """What is to be done for a table."""

    name: str
    runs: int  # of the columns whose data are there
    missing: int  # of these, not stored yet
    columns: tuple[str, ...]  # those to run, all of them where this is empty
    left: tuple[str, ...]  # the others, whose data are not here
    absent: tuple[str, ...]  # datasets that are not here, in a line each
    published: tuple[str, ...]  # overrides under which it is published
    plan: sweep.SweepPlan

    @property
    def output_dir(self) -> Path:
        return self.plan.runs[0].spec.session.output_dir


@dataclass(frozen=True)
class Done:
    """What came of it, in words."""

    name: str
    fine: bool
    words: str


def looked_up(name: str, overrides: Sequence[str], config_dir: str | None) -> Todo:
    """What the store has of a table, and which columns can be run here. Raises UserError."""
    published = published_with(name, overrides)
    planned = sweep.stored(name, [*published, *overrides], config_dir)
    assert planned.table is not None
    spec = {run.name: run.spec for run in planned.runs}
    ready = {run.name for run in planned.runs if not run.missing}
    ready |= {name for name, s in spec.items() if all(at_hand(d) for d in (s.dataset, s.prior) if d is not None)}
    jobs = planned.table.jobs()
    columns = [
        c for c in planned.table.columns if all(job.id in ready for job in jobs if c in {x for _, x, _ in job.cells})
    ]
    kept = {job.id for job in jobs if any(c in columns for _, c, _ in job.cells)}
    left = [c for c in planned.table.columns if c not in columns]
    missing = sum(run.missing for run in planned.runs if run.name in kept)
    some = tuple(columns) if left else ()
    return Todo(name, len(kept), missing, some, tuple(left), planned.absent, tuple(published), planned)


def published_with(name: str, overrides: Sequence[str]) -> list[str]:
    """What a table is published with in the repository at that scale, but for keys that ``overrides`` set."""
    paper, _, table = name.rpartition("/")
    path = ROOT / "outputs" / "paper" / paper / f"{name_at(_value('scale', overrides, 'paper'), table)}.md"
    if not path.is_file():
        return []
    typed = {override.partition("=")[0] for override in overrides}
    given = typed_besides(path.read_text(encoding="utf-8"))
    return [o for o in given if matters(o) and o.partition("=")[0] not in typed]


def regenerate(todo: Todo, overrides: Sequence[str], config_dir: str | None, launch: Launch) -> Done:
    """Runs what is missing, and lays the table out."""
    began = time.monotonic()
    if todo.missing:
        only = [f"only=[{','.join(todo.columns)}]"] if todo.columns else []
        log = todo.output_dir / "logs" / "regenerate" / f"{todo.name.replace('/', '.')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        given = ["--config-dir", config_dir] if config_dir else []
        code = launch([*given, f"experiment={todo.name}", *only, *todo.published, *overrides], log)
        if code == 2:
            return Done(todo.name, False, f"refused: {_last_line(log)}; see {log}")
    planned = todo.plan.looked_up()
    assert planned.table is not None
    session = planned.runs[0].spec.session
    typed = planned.typed_but("experiment", "scale", "force", "cell")
    folder = Store(session.output_dir).folder
    filled = fill_table(planned.table, planned.records(), session.scale, typed, folder, planned.at_papers_scale())
    if not filled.complete:
        return Done(todo.name, False, f"no run succeeded; see {todo.output_dir / 'logs' / 'regenerate'}")
    write(filled, session.output_dir, todo.published)
    stem = path_of(filled, session.output_dir, todo.published)
    behind = {folder.name for folder in filled.folders.values()}
    pack(Store(session.output_dir), sorted(behind), stem.with_name(stem.name + SUFFIX))
    if todo.published:  # the command filed it as a variant
        variant = path_of(filled, session.output_dir)
        for path in variant.parent.glob(f"{glob.escape(variant.name)}.*"):
            path.unlink()
    taken = f"{todo.missing} run in {duration(time.monotonic() - began)}" if todo.missing else "all of them stored"
    left = f"; without {', '.join(todo.left)}, whose data are not here" if todo.left else ""
    return Done(todo.name, filled.complete >= todo.runs, f"{filled.complete} of {filled.jobs} runs, {taken}{left}")


def as_process(arguments: Sequence[str], log: Path) -> int:
    """The command in a process of its own, which a crash cannot take down with it."""
    with log.open("w") as file:
        command = [sys.executable, "-m", "privsweep.cli.main", *arguments]
        return subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return lines[-1] if lines else "it said nothing"


def main(arguments: Sequence[str] | None = None, launch: Launch = as_process) -> int:
    """Entry point; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="paper, table or key=value")
    parser.add_argument("--config-dir", help="your own configuration; its tables are regenerated, too")
    given = parser.parse_intermixed_args(arguments)
    named = [word for word in given.words if "=" not in word]
    overrides = [word for word in given.words if "=" in word]
    tables = tables_in(CONF, *([Path(given.config_dir)] if given.config_dir else []))
    strange = [word for word in named if not any(t == word or t.startswith(f"{word}/") for t in tables)]
    if strange:
        print(printable(f"{strange[0]}: is neither a paper nor a table"), file=sys.stderr)
        return 2
    chosen = [t for t in tables if not named or any(t == word or t.startswith(f"{word}/") for word in named)]
    return _all(chosen, overrides, given.config_dir, launch)


def _all(tables: Sequence[str], overrides: Sequence[str], config_dir: str | None, launch: Launch) -> int:
    results: list[Done] = []
    absent: dict[str, None] = {}

    def tell(done: Done) -> None:
        results.append(done)
        print(printable(f"[{len(results)}/{len(tables)}] {done.name}: {done.words}"), flush=True)

    for name in tables:
        try:
            todo = looked_up(name, overrides, config_dir)
        except UserError as error:
            tell(Done(name, isinstance(error, AbsentError), f"left out: {str(error).splitlines()[0]}"))
            continue
        absent |= dict.fromkeys(todo.absent)
        if not todo.runs:
            tell(Done(name, True, "left out: its data are not here"))
            continue
        if todo.missing:
            print(printable(f"{name}: {todo.missing} of {todo.runs} runs to do"), flush=True)
        try:
            tell(regenerate(todo, overrides, config_dir, launch))
        except Exception as error:  # the other tables are made all the same
            tell(Done(name, False, f"{type(error).__name__}: {error}".splitlines()[0]))
    for line in absent:
        print(printable(f"not here: {line}"))
    bad = [done for done in results if not done.fine]
    print(f"{len(results) - len(bad)} of {len(results)} tables done; not complete: {len(bad)}")
    for done in bad:
        print(f"  {printable(f'{done.name}: {done.words}')}")
    if (ROOT / "outputs").resolve() == _output_dir(overrides).resolve():
        write_status(ROOT)
        print("README.md and outputs/paper/README.md: what is published is written anew")
    return 1 if bad else 0


def _output_dir(overrides: Sequence[str]) -> Path:
    return Path(_value("output_dir", overrides, "outputs"))


def _value(key: str, overrides: Sequence[str], default: str) -> str:
    return next((o.partition("=")[2] for o in reversed(overrides) if o.startswith(f"{key}=")), default)


if __name__ == "__main__":
    sys.exit(main())
