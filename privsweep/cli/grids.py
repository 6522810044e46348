"""What ``privsweep-matrix`` shows: grids in the terminal and as Markdown."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import fill

from rich.console import Console, Group
from rich.text import Text

from privsweep.interface.errors import UserError
from privsweep.interface.printable import in_markdown, printable
from privsweep.report.bands import Column, bands
from privsweep.report.markdown import pipe_table
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
        console.print(Text(printable(grid.title), "italic"))
        console.print(_in_bands(grid, console.width))
    for line in legend(found):
        console.print(line)
    within = console.width if console.is_terminal else sys.maxsize
    if found.brings:
        console.print(f"\n{ALONE}:")
    for line in lines(found.brings):
        _print(console, "", line, within)
    console.print()
    for number, reason in enumerate(found.reasons, 1):
        _print(console, str(number), reason, within)


def _in_bands(grid: Grid, width: int) -> Group:
    rows = [printable(row) for row in grid.rows]
    longest = max((len(word) for row in rows for word in row.split()), default=0)
    names = Column([""], rows, most=max(longest, width // 3))
    columns = [
        Column(printable(column).replace("_", " ").split(), [grid.cells[row, column] for row in grid.rows], "right")
        for column in grid.columns
    ]
    return bands([names], [names], columns, width)


def _print(console: Console, number: str, text: str, width: int) -> None:
    """What does not fit into a line goes on below its beginning."""
    told = fill(
        printable(text), width, initial_indent=f"{number:>3}  ", subsequent_indent=" " * 7, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    console.print(told, soft_wrap=True)


def write(found: Matrix, path: Path) -> None:
    """As Markdown. Raises UserError where the file cannot be written."""
    parts = ["# What goes together", "", *(f"- {line}" for line in legend(found)), ""]
    for grid in found.grids:
        parts += [f"## {grid.title[:1].upper()}{grid.title[1:]}", "", _markdown(grid), ""]
    parts += (
        [f"## {ALONE}", "", *(f"- {in_markdown(line)}" for line in lines(found.brings)), ""] if found.brings else []
    )
    parts += ["## Reasons", "", pipe_table(["number", "reason"], [[str(n), r] for n, r in enumerate(found.reasons, 1)])]
    try:
        with whole_file(path) as draft:
            draft.write_text("\n".join(parts) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"markdown={path}: cannot be written ({error.strerror}); choose another file") from error
    print(printable(f"wrote {path}"))


def _markdown(grid: Grid) -> str:
    return pipe_table(["", *grid.columns], [[row, *(grid.cells[row, c] for c in grid.columns)] for row in grid.rows])
