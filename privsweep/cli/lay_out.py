"""A table laid out again from stored runs, and written; nothing is run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Console

from privsweep.cli import sweep
from privsweep.interface.keys import SCALES, finding
from privsweep.interface.printable import printable
from privsweep.report.table_terminal import table_terminal
from privsweep.report.write import write
from privsweep.store.store import Store
from privsweep.table.fill import FilledTable, fill_table


def report(name: str, overrides: Sequence[str], config_dir: str | None, to: Path | None, console: Console) -> int:
    """Shows the table and writes it, below ``to`` or the output folder; the exit code. Raises UserError."""
    filled, output_dir, absent = lay_out(name, overrides, config_dir)
    console.print(table_terminal(filled, console.width))
    for line in absent:
        print(printable(f"left out: {line}"), file=sys.stderr)
    if not filled.complete:
        again = shlex.join(["privsweep", *finding(config_dir), f"experiment={name}", *overrides])
        print(printable(f"nothing is stored for it in {output_dir}; run: {again}"), file=sys.stderr)
        for line in _at_other_scales(name, overrides, config_dir):
            print(printable(line), file=sys.stderr)
        return 1
    try:
        paths = write(filled, to or output_dir)
    except OSError as error:
        reason = f"{error.strerror or error}); name another folder with --to=FOLDER"
        print(printable(f"{to or output_dir}: the table cannot be written there ({reason}"), file=sys.stderr)
        return 1
    for path in paths:
        console.print(printable(f"wrote {path}"))
    return 0 if filled.complete == filled.jobs and not filled.misnamed else 1


def _at_other_scales(name: str, overrides: Sequence[str], config_dir: str | None) -> Iterator[str]:
    """How many of the table's runs are stored at each scale that has some."""
    others = [given for given in overrides if not given.startswith("scale=")]
    for scale in SCALES:
        filled, _, _ = lay_out(name, [*others, f"scale={scale}"], config_dir)
        if filled.complete:
            given = shlex.join(["privsweep-report", *finding(config_dir), name, *others, f"scale={scale}"])
            yield f"of scale={scale} {filled.complete} of {filled.jobs} are: {given}"


def lay_out(
    name: str, overrides: Sequence[str], config_dir: str | None = None
) -> tuple[FilledTable, Path, Sequence[str]]:
    """A table from the store, the output folder in use, and why cells were left out. Raises UserError."""
    planned = sweep.stored(name, overrides, config_dir)
    assert planned.table is not None
    session = planned.runs[0].spec.session
    folder = Store(session.output_dir).folder
    filled = fill_table(
        planned.table, planned.records(), session.scale, overrides, folder, planned.at_papers_scale(), config_dir
    )
    return filled, session.output_dir, planned.absent
