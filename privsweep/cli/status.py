"""The ``privsweep-status`` command: what has become of the cells of a sweep; it runs and changes nothing."""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.text import Text

from privsweep.cli.follow import hints
from privsweep.cli.states import ORDER, CellState, Observer, count
from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable
from privsweep.store import sweeps
from privsweep.store.sweeps import Cell, Sweep

_WIDTH = 160  # columns, where the output is no terminal
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
To see it change:  watch -n 5 privsweep-status zen/table1"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Exit codes: 0 every cell shown is done, 1 not (yet), 2 the request was refused."""
    parser = argparse.ArgumentParser(
        "privsweep-status", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arguments", nargs="*", metavar="table or key=value")
    parser.add_argument("--all", action="store_true", help=f"list every cell, not the first {_SHOWN} of a state")
    parser.add_argument("--config-dir", help="your own configuration, searched besides the built-in one")
    given = parser.parse_intermixed_args(arguments)
    shown = sys.stdout.isatty()
    console = Console(width=None if shown else _WIDTH, soft_wrap=not shown, highlight=False, markup=False, emoji=False)
    try:
        tables = [a.removeprefix("experiment=") for a in given.arguments if "=" not in a or a.startswith("experiment=")]
        overrides = [a for a in given.arguments if "=" in a and not a.startswith("experiment=")]
        output_dir = Path(next((o.partition("=")[2] for o in overrides if o.startswith("output_dir=")), "outputs"))
        output_dir = output_dir.expanduser()
        if not output_dir.is_dir():
            raise UserError(f"output_dir={output_dir}: no such folder; name the one that the sweep writes to")
        further = [o for o in overrides if not o.startswith("output_dir=")]
        if further and not tables:
            raise UserError(f"{further[0]}: goes with a table; name one, such as zen/table1")
        return _show(tables, overrides, bool(further), output_dir, given.config_dir, given.all, console)
    except UserError as error:
        for line in str(error).splitlines():
            print(printable(line), file=sys.stderr)
        return 2


def _show(
    tables: Sequence[str], overrides: Sequence[str], compose: bool, output_dir: Path, config_dir: str | None,
    whole: bool, console: Console,
) -> int:  # fmt: skip
    observer = Observer(output_dir)
    if compose:
        chosen: list[tuple[Path | None, Sweep]] = [(None, composed(t, overrides, config_dir)) for t in tables]
    elif tables:
        chosen = []
        for table in tables:
            found = _last(output_dir, table)
            chosen += found or [(None, composed(table, overrides, config_dir))]
    else:
        chosen = _last(output_dir)[:_LAST]
        if not chosen and not observer.living:
            raise UserError(f"output_dir={output_dir}: no sweep was started there; name another folder")
    done = True
    known: set[str] = set()
    for path, sweep in chosen:
        states = observer.states(sweep, path)
        known |= {s.cell.signature for s in states}
        done = done and all(s.state == "done" for s in states)
        _tell(sweep, states, output_dir, whole, console)
    for beat in observer.living if not tables else []:
        if beat.signature not in known:
            console.print(Text(printable(f"running  {beat.title}: {beat.told}"), _STYLES["running"]))
    return 0 if done else 1


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

    planned = sweep.stored(table, overrides, config_dir)
    session = planned.runs[0].spec.session
    jobs = {c.signature: c.job for _, s in reversed(list(sweeps.every(session.output_dir))) for c in s.cells if c.job}
    cells = [
        Cell(name=r.name, signature=(sign := r.spec.signature), number=n, before=(None, None), job=jobs.get(sign))
        for n, r in enumerate(planned.runs)
    ]
    said = [o for o in overrides if not o.startswith("output_dir=")]
    return Sweep(
        table=table, scale=session.scale, overrides=said, config_dir=config_dir, started="", launcher="", folder="logs",
        host="", pid=0, user=getpass.getuser(), cells=cells,
    )  # fmt: skip


def _tell(sweep: Sweep, states: Sequence[CellState], output_dir: Path, whole: bool, console: Console) -> None:
    numbers = ", ".join(f"{n} {state}" for state, n in count(states).items())
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
    for line in hints(sweep, output_dir, live)[1:]:
        console.print(Text(printable(line), "dim"))


def _when(started: str) -> str:
    try:
        return datetime.fromisoformat(started).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return started


if __name__ == "__main__":
    sys.exit(main())
