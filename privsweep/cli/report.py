"""The ``privsweep-report`` command: tables, and one page of everything, from stored runs; it runs nothing."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from privsweep.cli.one_line import one_line
from privsweep.cli.tables import check_tables, folders, tables_in
from privsweep.interface.errors import UserError
from privsweep.interface.keys import SCALES
from privsweep.interface.printable import printable
from privsweep.run.again import Again
from privsweep.run.compose import parse, searching
from privsweep.run.heartbeat import beats
from privsweep.store import sweeps
from privsweep.store.atomic import whole_file
from privsweep.store.store import Store

if TYPE_CHECKING:
    from privsweep.report.page.page import UnderWay

_WIDTH = 160  # columns, where the output is no terminal
_DESCRIPTION = """\
Without a table, writes report.html: one self-contained page of everything in output_dir.
With tables, lays them out again from stored runs:  privsweep-report zen/table1 scale=quick
Overrides are those of privsweep; of a table any key, which selects the runs that are read; of the page output_dir=...
and scale=..., which keeps the tables and runs of one scale. Files go below output_dir; with --to=FOLDER, below that."""
_OF_THE_PAGE = ("output_dir", "scale")


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    tables: tuple[str, ...]  # none: the page
    overrides: tuple[str, ...]  # experiment=... not among them
    config_dir: str | None
    to: Path | None  # where files go; None: below output_dir


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. Without ``arguments``, those of the shell count.

    Exit codes: 0 done, 1 runs are missing or have failed, 2 the request was refused.
    """
    shown = sys.stdout.isatty()
    console = Console(width=None if shown else _WIDTH, soft_wrap=not shown, highlight=False, markup=False, emoji=False)
    try:
        asked = request(arguments)
        if asked.tables:
            check_tables(asked.tables, asked.config_dir)
            from privsweep.cli.lay_out import report  # here, for the page needs nothing of it

            return max([report(name, asked.overrides, asked.config_dir, asked.to, console) for name in asked.tables])
        path = everything(asked.overrides, asked.config_dir, asked.to)
        console.print(printable(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)"))
    except UserError as error:
        for line in str(error).splitlines():
            print(f"privsweep-report: {printable(line)}", file=sys.stderr)
        return 2
    return 0


def request(arguments: Sequence[str] | None) -> Request:
    """Tables are words such as zen/table1, or experiment=zen/table1; all else is an override or an option.

    Raises UserError for what is neither.
    """
    parser = argparse.ArgumentParser(
        "privsweep-report",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("arguments", nargs="*", metavar="table or key=value")
    parser.add_argument("--config-dir", help="your own configuration, searched besides the built-in one")
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="where files are written, instead of output_dir")
    given = one_line(parser, "privsweep-report").parse_intermixed_args(arguments)
    tables, overrides = [], []
    for argument in given.arguments:
        key, equals, value = argument.partition("=")
        if not equals and re.fullmatch(r"\w[\w.+/-]*", argument):
            tables.append(argument)
        elif not equals:
            raise UserError(f"{argument}: is no table and no key=value; name a table as in zen/table1")
        elif key in ("to", "config_dir"):
            raise UserError(f"{argument}: is a flag of this command; write --{key.replace('_', '-')}={value}")
        elif key == "experiment":
            names = value.strip("[]").split(",")
            if not all(names) or value == "null":
                raise UserError(f"{argument}: names no table; leave it out for the page of everything")
            tables += names
        else:
            overrides.append(argument)
    return Request(tuple(dict.fromkeys(tables)), tuple(overrides), given.config_dir, given.to)


def everything(overrides: Sequence[str] = (), config_dir: str | None = None, to: Path | None = None) -> Path:
    """Writes ``report.html``, of every stored run and every table that lies in the output folder; its path.

    It goes there, or to the folder ``to``.

    No experiment is composed: tables are shown as they were laid out. Raises UserError where there is nothing.
    """
    values = _values(overrides, config_dir)
    root, scale = values.get("output_dir", "outputs"), values.get("scale")
    if scale is not None and scale not in SCALES:
        raise UserError(f"scale={scale}: choose one of {', '.join(SCALES)}")
    try:
        path, content = _page(root, scale, config_dir, to)
    except OSError as error:
        raise UserError(
            f"output_dir={root}: cannot be used ({error.strerror or error}); name another folder"
        ) from error
    try:
        with whole_file(path) as draft:
            draft.write_text(content, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); name another folder with --to=FOLDER"
        ) from error
    return path


def _page(root: str, scale: str | None, config_dir: str | None, to: Path | None) -> tuple[Path, str]:
    """Where the page goes, and what it is."""
    from privsweep.report.page.page import Contents, page  # here, for help and a refusal need none of it
    from privsweep.report.page.published import published_in

    store = Store(Path(root))
    path = (to or store.root) / "report.html"
    found = [*store.records(), *store.failures()]
    records = [record for record in found if scale in (None, record.get("scale"))]
    tables = [table for table in published_in(store.root, path.parent) if scale in (None, table.scale)]
    running = _running(store.root)
    if not records and not tables and not running:
        of_scale = f" of scale={scale}" if scale else ""
        raise UserError(f"output_dir={root}: no runs{of_scale} are stored there; run privsweep, or name another folder")
    experiments = tables_in(*folders(config_dir))
    contents = Contents(records, tables, running, experiments, root, config_dir)
    return path, page(contents, store.folder, Again(config_dir))


def _running(root: Path) -> list[UnderWay]:
    """What is in progress, whatever started it; those that began first come first."""
    from privsweep.report.page.page import UnderWay

    living = sorted((beat for beat, lives in beats(root).values() if lives), key=lambda beat: beat.since)
    cells: dict[str, str] = {}
    for _, sweep in sweeps.every(root) if living else ():
        for cell in sweep.cells:
            cells.setdefault(cell.signature, f"{sweep.table} {cell.name}" if sweep.table else cell.name)
    return [UnderWay(b.title, cells.get(b.signature, ""), b.phase, b.done, b.total, b.lasting, b.where) for b in living]


def _values(overrides: Sequence[str], config_dir: str | None) -> dict[str, str]:
    """Key -> value of the overrides that the page knows, the last of each. Raises UserError for others."""
    with searching(config_dir):
        parsed = parse(overrides)
    for override in parsed:
        key = override.key_or_group
        if key not in _OF_THE_PAGE or override.is_sweep_override() or override.is_delete():
            raise UserError(
                f"{override.input_line}: the page of everything takes output_dir=... and scale=... only; "
                "filter runs on the page, or name a table"
            )
    return {override.key_or_group: str(override.value()) for override in parsed}
