"""The ``privsweep-report`` command: tables, and one page of everything, from stored runs; it runs nothing."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from privsweep.cli import sweep
from privsweep.cli.one_line import one_line
from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable
from privsweep.report.html import page
from privsweep.report.table_terminal import table_terminal
from privsweep.report.write import write
from privsweep.run.compose import CONF
from privsweep.store.atomic import whole_file
from privsweep.store.store import Store
from privsweep.table.fill import FilledTable, fill_table

_WIDTH = 160  # columns, where the output is no terminal
_DESCRIPTION = """\
Lays out a table again from stored runs:  privsweep-report zen/table1 scale=quick
Without a table, writes report.html: one self-contained page of everything in output_dir.
Overrides are those of privsweep (output_dir=..., scale=..., any key); they select the runs that are read."""


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 runs are missing or have failed, 2 the request was refused."""
    parser = argparse.ArgumentParser(
        "privsweep-report", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("arguments", nargs="*", metavar="table or key=value")
    parser.add_argument("--config-dir", help="your own configuration, searched besides the built-in one")
    try:
        given = one_line(parser, "privsweep-report").parse_args()
        _main(given)
    except UserError as error:
        for line in error.args:
            print(line, file=sys.stderr)
        sys.exit(2)


def _main(given: argparse.Namespace) -> None:
    tables = [a.removeprefix("experiment=") for a in given.arguments if "=" not in a or a.startswith("experiment=")]
    overrides = [a for a in given.arguments if "=" in a and not a.startswith("experiment=")]
    shown = sys.stdout.isatty()
    console = Console(width=None if shown else _WIDTH, soft_wrap=not shown, highlight=False, markup=False, emoji=False)
    if tables:
        codes = [_report(name, overrides, given.config_dir, console) for name in tables]
        sys.exit(max(codes))
    _tell(console, everything(overrides, given.config_dir))


def _report(name: str, overrides: Sequence[str], config_dir: str | None, console: Console) -> int:
    filled, output_dir, absent = lay_out(name, overrides, config_dir)
    console.print(table_terminal(filled, console.width))
    for line in absent:
        print(printable(f"left out: {line}"), file=sys.stderr)
    if not filled.complete:
        given = " ".join([f"experiment={name}", *map(shlex.quote, overrides)])
        print(printable(f"nothing is stored for it in {output_dir}; run: privsweep {given}"), file=sys.stderr)
        return 1
    for path in write(filled, output_dir):
        _tell(console, path)
    return 0 if filled.complete == filled.jobs else 1


def _tell(console: Console, path: Path) -> None:
    console.print(printable(f"wrote {path}"))


def lay_out(
    name: str, overrides: Sequence[str], config_dir: str | None = None
) -> tuple[FilledTable, Path, Sequence[str]]:
    """A table from the store, the output folder in use, and why cells were left out. Raises UserError."""
    planned = sweep.stored(name, overrides, config_dir)
    assert planned.table is not None
    session = planned.runs[0].spec.session
    folder = Store(session.output_dir).folder
    filled = fill_table(planned.table, planned.records(), session.scale, overrides, folder)
    return filled, session.output_dir, planned.absent


def everything(overrides: Sequence[str], config_dir: str | None = None) -> Path:
    """Writes ``<output_dir>/report.html`` with every stored run and every table that has some; its path.

    Raises UserError where nothing is stored.
    """
    output_dir = Path(next((o.partition("=")[2] for o in overrides if o.startswith("output_dir=")), "outputs"))
    store = Store(output_dir)
    records = store.records()
    if not records:
        raise UserError(
            f"output_dir={output_dir}: no runs are stored there; run privsweep first, or name another folder"
        )
    tables, refused = [], []
    scaled = [o for o in overrides if not o.startswith("scale=")]
    wanted = [o.partition("=")[2] for o in overrides if o.startswith("scale=")]
    for name in tables_in(CONF, *([Path(config_dir)] if config_dir else [])):
        for scale in wanted or sorted({record["scale"] for record in records}):
            try:
                filled, *_ = lay_out(name, [*scaled, f"scale={scale}"], config_dir)
            except UserError as error:
                refused.append(f"{name}: {error}")
                break
            if filled.complete:
                tables.append(filled)
    path = output_dir / "report.html"
    with whole_file(path) as draft:
        draft.write_text(page(records, tables, refused, store.folder), encoding="utf-8")
    return path


def tables_in(*folders: Path) -> list[str]:
    """The experiments below ``<folder>/experiment`` that are tables, as the command line names them."""
    names = []
    for folder in folders:
        for path in sorted((folder / "experiment").rglob("*.yaml")):
            if any(line.rstrip() == "table:" for line in path.read_text(encoding="utf-8").splitlines()):
                names.append(path.relative_to(folder / "experiment").with_suffix("").as_posix())
    return names
