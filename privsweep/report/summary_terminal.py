"""The summary of a sweep in the terminal: side by side what fits, and below each other what does not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from privsweep.interface.printable import printable
from privsweep.report.summary import Summary

_GAP = 2  # characters between two columns
_KEYS = 0.5  # of the width, at most, for keys that stand before every band
_PARTS = re.compile(r"[^_.]+[_.]*|[_.]+")

Column = tuple[list[str], list[str]]  # lines of the head, texts below it


def summary_terminal(made: Summary, width: int) -> RenderableType:
    """For a terminal ``width`` characters wide: in as many bands as it takes, so that no number is broken.

    What was varied stands before every band, or where it is too wide before the first one alone, with a number for
    each combination that stands before all of them.
    """
    columns = [_column(name, [row[i] for row in made.rows]) for i, name in enumerate(made.head)]
    columns = columns if _wide(columns) <= width else [*map(_narrow, columns)]
    keys, numbers = columns[: made.keys], columns[made.keys :]
    each = keys
    if _wide(columns) > width and _wide(keys) > _KEYS * width:
        each = [_column("#", [str(n) for n in range(1, len(made.rows) + 1)])]
        keys = [*each, *keys]
    bands: list[list[Column]] = [[]]
    for column in numbers:
        before = keys if len(bands) == 1 else each
        if _wide([*before, *bands[-1], column]) > width and (bands[-1] or len(bands) == 1):
            bands.append([])
        bands[-1].append(column)
    tables = (_shown(each if i else keys, band) for i, band in enumerate(bands) if band or keys is not each)
    return Group(*(Padding(table, (1, 0, 0, 0), expand=False) for table in tables), "")


def _column(name: str, texts: Sequence[str]) -> Column:
    return [printable(name)], [*map(printable, texts)]


def _narrow(column: Column) -> Column:
    """Its head in lines as short as its texts, where the parts of its name allow that."""
    [name], texts = column
    room = max(map(cell_len, texts), default=0)
    head = [""]
    for part in _PARTS.findall(name):
        if head[-1] and cell_len(head[-1] + part) > room:
            head.append("")
        head[-1] += part
    return head, texts


def _wide(columns: Sequence[Column]) -> int:
    return sum(max(map(cell_len, [*head, *texts])) + _GAP for head, texts in columns) - _GAP


def _shown(keys: Sequence[Column], numbers: Sequence[Column]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for head, _ in keys:
        table.add_column(Text("\n".join(head)), overflow="fold")
    for head, _ in numbers:
        table.add_column(Text("\n".join(head)), no_wrap=True)
    for row in zip(*(texts for _, texts in [*keys, *numbers]), strict=True):
        table.add_row(*map(Text, row))
    return table
