"""The ``privsweep-status`` command: what has become of the cells of a sweep; it runs and changes nothing."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

from privsweep.cli.follow import goes_on, hints
from privsweep.cli.one_line import one_line
from privsweep.cli.states import ORDER, CellState, Observer, count
from privsweep.cli.words import keys_in
from privsweep.interface.errors import UserError
from privsweep.interface.keys import check_config_dir, finding
from privsweep.interface.printable import printable
from privsweep.store import sweeps
from privsweep.store.sweeps import Cell, Sweep

_WIDTH = 160  # columns, where the output is no terminal
_PLAIN: Any = {"highlight": False, "markup": False, "emoji": False}  # of a console
_EVERY_SECONDS = 3.0  # with --follow
_LAST = 5  # sweeps that are shown where none is named
_SHOWN = 20  # cells of one state
_STYLES = {
    "failed": "bold red",
    "stopped": "red",
    "running": "green",
    "queued": "cyan",
    "not run": "yellow",
    "done": "",
}
_DESCRIPTION = """\
What has become of the last sweeps:  privsweep-status [output_dir=...]
What has become of a table's cells:  privsweep-status zen/table1 [output_dir=...]
It works on any machine that sees the output folder, and asks SLURM where it can be asked. With further overrides
(scale=quick, any key) it composes that table and says what is stored of it.
With --follow it looks again every few seconds, until nothing is under way or you press Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 every cell shown is done, 1 not (yet), 2 the request was refused."""
    parser = argparse.ArgumentParser(
        "privsweep-status",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("arguments", nargs="*", metavar="table or key=value")
    parser.add_argument("--all", action="store_true", help=f"list every cell, not the first {_SHOWN} of a state")
    parser.add_argument("--follow", action="store_true", help="look again every few seconds, in a terminal")
    parser.add_argument("--config-dir", help="your own configuration, searched besides the built-in one")
    shown = sys.stdout.isatty()
    console = Console(width=None if shown else _WIDTH, soft_wrap=not shown, **_PLAIN)
    try:
        given = one_line(parser, "privsweep-status").parse_intermixed_args(arguments)
        tables = [a.removeprefix("experiment=") for a in given.arguments if "=" not in a or a.startswith("experiment=")]
        overrides = [a for a in given.arguments if "=" in a and not a.startswith("experiment=")]
        check_config_dir(given.config_dir)
        output_dir = Path(keys_in(overrides)[1].get("output_dir", "outputs")).expanduser()
        if not output_dir.is_dir():
            raise UserError(f"output_dir={output_dir}: no such folder; name the one that the sweep writes to")
        further = [o for o in overrides if not o.startswith("output_dir=")]
        if further and not tables:
            raise UserError(f"{further[0]}: goes with a table; name one, such as zen/table1")
        if given.follow and not shown:
            raise UserError("--follow: draws in a terminal, and this output is none; leave it out")
        asked = Asked(tables, overrides, bool(further), output_dir, given.config_dir, given.all)
        return _follow(asked, console) if given.follow else _show(asked, console)[0]
    except UserError as error:
        for line in str(error).splitlines():
            print(printable(line), file=sys.stderr)
        return 2


@dataclass(frozen=True)
class Asked:
    """What was typed."""

    tables: Sequence[str]
    overrides: Sequence[str]
    compose: bool  # a table with further overrides
    output_dir: Path
    config_dir: str | None
    whole: bool  # every cell is listed
    composed: dict[str, Sweep] = field(default_factory=dict)  # by table: it takes seconds, and stays as it is

    def chosen(self) -> list[tuple[Path | None, Sweep]]:
        """The sweeps to tell of, as they are noted now, each with its file if it has one. Raises UserError."""
        if not self.tables:
            return _last(self.output_dir)[:_LAST]
        found: list[tuple[Path | None, Sweep]] = []
        for table in self.tables:
            noted = [] if self.compose else _last(self.output_dir, table)
            found += noted or [(None, self._composed(table))]
        return found

    def _composed(self, table: str) -> Sweep:
        if table not in self.composed:
            self.composed[table] = composed(table, self.overrides, self.config_dir)
        return self.composed[table]


def _follow(asked: Asked, console: Console) -> int:
    """Draws what ``_show`` tells again and again, until nothing goes on by itself or Ctrl-C; the exit code."""
    code = 1
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        over = False
        while not over:
            drawn = Console(file=StringIO(), width=console.width, force_terminal=True, **_PLAIN)
            with drawn.capture() as told:
                code, over = _show(asked, drawn)
            live.update(Text.from_ansi(told.get().rstrip("\n")), refresh=True)
            if not over:
                time.sleep(_EVERY_SECONDS)
    return code


def _show(asked: Asked, console: Console) -> tuple[int, bool]:
    """Tells of all sweeps once; the exit code, and whether nothing is under way any more. Raises UserError."""
    observer, chosen = Observer(asked.output_dir), asked.chosen()
    if not chosen and not observer.living:
        raise UserError(f"output_dir={asked.output_dir}: no sweep was started there; name another folder")
    done = over = True
    known: set[str] = set()
    for path, sweep in chosen:
        states = observer.states(sweep, path)
        known |= {s.cell.signature for s in states}
        chooses = bool(sweep.to_come) and observer.goes_on(sweep)
        done = done and not sweep.to_come and all(s.state == "done" for s in states)
        over = over and not chooses and all(s.over for s in states)
        _tell(sweep, chooses, states, asked.output_dir, asked.whole, console)
    for beat in observer.living if not asked.tables else []:
        if beat.signature not in known:
            over = False
            console.print(Text(printable(f"running  {beat.title}: {beat.told}"), _STYLES["running"]))
    return (0 if done else 1), over


def _last(output_dir: Path, table: str | None = None) -> list[tuple[Path | None, Sweep]]:
    """The last sweep for every way in which one was started, the newest first; of one table, or of all."""
    found: dict[tuple[str, ...], tuple[Path | None, Sweep]] = {}
    for path, sweep in sweeps.every(output_dir):
        if table in (None, sweep.table):
            found.setdefault((sweep.table, sweep.scale, *sweep.overrides), (path, sweep))
    return list(found.values())


def composed(table: str, overrides: Sequence[str], config_dir: str | None) -> Sweep:
    """A table that no sweep has noted, with the jobs that other sweeps have for its cells. Raises UserError."""
    from privsweep.cli import sweep  # here, for it needs PyTorch
    from privsweep.cli.tables import check_tables

    check_tables([table], config_dir)
    planned = sweep.stored(table, overrides, config_dir)
    session = planned.runs[0].spec.session
    jobs: dict[str, Any] = {s: {"job": c.job, "logs": c.logs} for s, c in sweeps.submitted(session.output_dir).items()}
    cells = [
        Cell(name=r.name, signature=sign, number=n, before=(None, None), **jobs.get(sign, {}))
        for n, r in enumerate(planned.runs)
        for sign in [r.spec.signature]
    ]
    said = [o for o in overrides if not o.startswith("output_dir=")]
    return Sweep(
        table=table, scale=session.scale, overrides=said, config_dir=config_dir, started="", launcher="", folder="logs",
        host="", pid=0, user=getpass.getuser(), cells=cells, cwd=os.getcwd(),
        command=["privsweep", *finding(config_dir), f"experiment={table}", *overrides],
    )  # fmt: skip


def _tell(
    sweep: Sweep, chooses: bool, states: Sequence[CellState], output_dir: Path, whole: bool, console: Console
) -> None:
    """``chooses``: it is a search that is at work, and has trials to come."""
    numbers = ", ".join(f"{n} {state}" for state, n in count(states).items())
    if sweep.to_come:
        numbers += f"; {sweep.to_come} trial{'s' * (sweep.to_come != 1)} to come"
    name = " ".join([sweep.table or "sweep", *sweep.overrides])
    kind = ("cell" if sweep.table else "run") + "s" * (len(states) != 1)
    begun = f" (started {_when(sweep.started)}, {sweep.launcher})" if sweep.started else ""
    console.print(Text(printable(f"{name}: {len(states)} {kind}: {numbers}{begun}"), "bold"))
    for state in ORDER:
        own = [s for s in states if s.state == state]
        for s in own if whole else own[:_SHOWN]:
            row = Text(f"  {state:8} ", _STYLES[state]).append(printable(s.cell.name))
            console.print(row.append(f": {printable(s.detail)}", "default") if s.detail else row)
            if s.log and state in ("failed", "stopped"):
                console.print(Text(f"{'':11}log: {printable(str(s.log))}"))
        if not whole and len(own) > _SHOWN:
            console.print(f"  {state:8} ... and {len(own) - _SHOWN} more; --all lists them")
    live = [s.cell.job for s in states if s.cell.job and s.state in ("running", "queued")]
    lines = hints(sweep, output_dir, live)[1:]
    if not chooses and all(s.over for s in states) and (sweep.to_come or any(s.state != "done" for s in states)):
        lines += goes_on(sweep)
    for line in lines:
        console.print(Text(printable(line), "dim"), soft_wrap=True)


def _when(started: str) -> str:
    try:
        return datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return started


if __name__ == "__main__":
    sys.exit(main())
