"""What ``privsweep-matrix`` shows: grids in the terminal and as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable
from privsweep.report.markdown import escape, pipe_table
from privsweep.run.companions import lines
from privsweep.run.matrix import ADDED, RUNS, SENTENCES, Grid, Matrix
from privsweep.store.atomic import whole_file

ALONE = "What a choice brings where it alone is typed, amounts as at scale=paper"
_WIDTH = 160  # columns, where the output is no terminal


def legend(found: Matrix) -> list[str]:
    """What the signs in the cells mean, a line each."""
    met = {sign for grid in found.grids for cell in grid.cells.values() for sign in cell}
    added = [
        f"{letter}  runs with {part}.{name}={str(value).lower()}"
        for letter, (part, name, value) in ADDED.items()
        if letter in met
    ]
    sentences = [f"{SENTENCES}  runs on sentences (dataset=multi30k)"] if SENTENCES in met else []
    return [f"{RUNS}  runs as it is", *added, *sentences, "a number: is refused, for the reason with that number"]


def show(found: Matrix) -> None:
    """In the terminal."""
    width = None if sys.stdout.isatty() else _WIDTH
    console = Console(width=width, highlight=False, markup=False, emoji=False)
    for grid in found.grids:
        table = Table(title=printable(grid.title), title_justify="left", box=None, padding=(0, 1), pad_edge=False)
        table.add_column("")
        for column in grid.columns:
            table.add_column(Text("\n".join(printable(column).replace("_", " ").split())), justify="right")
        for row in grid.rows:
            table.add_row(Text(printable(row)), *(Text(grid.cells[row, column]) for column in grid.columns))
        console.print(table)
        console.print()
    for line in legend(found):
        console.print(line)
    if found.brings:
        console.print(f"\n{ALONE}:")
    for line in lines(found.brings):
        console.print(f"     {printable(line)}", soft_wrap=True)
    console.print()
    for number, reason in enumerate(found.reasons, 1):
        console.print(f"{number:>3}  {printable(reason)}", soft_wrap=True)


def write(found: Matrix, path: Path) -> None:
    """As Markdown. Raises UserError where the file cannot be written."""
    parts = ["# What goes together", "", *(f"- {line}" for line in legend(found)), ""]
    for grid in found.grids:
        parts += [f"## {grid.title[:1].upper()}{grid.title[1:]}", "", _markdown(grid), ""]
    parts += [f"## {ALONE}", "", *(f"- {escape(line)}" for line in lines(found.brings)), ""] if found.brings else []
    parts += ["## Reasons", "", pipe_table(["number", "reason"], [[str(n), r] for n, r in enumerate(found.reasons, 1)])]
    try:
        with whole_file(path) as draft:
            draft.write_text("\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"markdown={path}: cannot be written ({error.strerror}); choose another file") from error
    print(printable(f"wrote {path}"))


def _markdown(grid: Grid) -> str:
    return pipe_table(["", *grid.columns], [[row, *(grid.cells[row, c] for c in grid.columns)] for row in grid.rows])
