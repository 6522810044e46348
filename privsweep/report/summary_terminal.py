"""The summary of a sweep in the terminal."""

from __future__ import annotations

import re
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Group

from privsweep.interface.printable import printable
from privsweep.report.bands import Column, bands, room
from privsweep.report.summary import Summary

_KEYS = 0.5  # of the width, at most, for keys that stand before every band
_PARTS = re.compile(r"[^_.]+[_.]*|[_.]+")


def summary_terminal(made: Summary, width: int) -> Group:
    """For a terminal ``width`` characters wide: in as many bands as it takes, so that no number is broken.

    What was varied stands before every band, or where it is too wide before the first one alone, with a number for
    each combination that stands before all of them.
    """
    texts = [[printable(row[i]) for row in made.rows] for i in range(len(made.head))]
    columns = [Column([printable(name)], below) for name, below in zip(made.head, texts, strict=True)]
    columns = columns if room(columns) <= width else [*map(_narrow, columns)]
    keys, numbers = columns[: made.keys], columns[made.keys :]
    if room(columns) <= width or room(keys) <= _KEYS * width:
        return bands(keys, keys, numbers, width)
    counted = Column(["#"], [str(n) for n in range(1, len(made.rows) + 1)])
    return bands([counted, *keys], [counted], numbers, width)


def _narrow(column: Column) -> Column:
    """Its head in lines as short as its texts, where the parts of its name allow that."""
    most = max(map(cell_len, column.texts), default=0)
    head = [""]
    for part in _PARTS.findall(column.head[0]):
        if head[-1] and cell_len(head[-1] + part) > most:
            head.append("")
        head[-1] += part
    return replace(column, head=head)
