"""Columns in a terminal: side by side what fits, and below each other what does not, so that no cell is broken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Group
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

_GAP = 2  # characters between two columns


@dataclass(frozen=True)
class Column:
    """All of it is printable. Of a key ``most`` are the characters in a line; what is longer goes on in the next."""

    head: Sequence[str]  # its lines
    texts: Sequence[str]
    justify: Literal["left", "right"] = "left"
    most: int | None = None

    @property
    def wide(self) -> int:
        found = max(map(cell_len, [*self.head, *self.texts]), default=0)
        return found if self.most is None else min(found, self.most)


def room(columns: Sequence[Column]) -> int:
    """Characters that they take side by side."""
    return sum(column.wide + _GAP for column in columns) - _GAP


def bands(first: Sequence[Column], each: Sequence[Column], columns: Sequence[Column], width: int) -> Group:
    """The columns behind keys, which are ``first`` in the first band and ``each`` in every other.

    Where ``first`` leaves no room for a column, it stands alone, unless the others would repeat it.
    """
    found: list[list[Column]] = [[]]
    for column in columns:
        before = first if len(found) == 1 else each
        if room([*before, *found[-1], column]) > width and (found[-1] or len(found) == 1):
            found.append([])
        found[-1].append(column)
    tables = (_shown(each if i else first, band) for i, band in enumerate(found) if band or first != each)
    return Group(*(Padding(table, (1, 0, 0, 0), expand=False) for table in tables), "")


def _shown(keys: Sequence[Column], columns: Sequence[Column]) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, _GAP - 1, 0, 0), pad_edge=False, show_edge=False)
    for key in keys:
        table.add_column(Text("\n".join(key.head)), justify=key.justify, overflow="fold", max_width=key.most)
    for column in columns:
        table.add_column(Text("\n".join(column.head)), justify=column.justify, no_wrap=True)
    for row in zip(*(column.texts for column in [*keys, *columns]), strict=True):
        table.add_row(*map(Text, row))
    return table
