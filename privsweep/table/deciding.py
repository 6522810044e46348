"""What more it would take to decide a claim that is open."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Set

from privsweep.table.number_format import Number
from privsweep.table.significance import MOST_BY_CHANCE, widened
from privsweep.table.spec import Table
from privsweep.table.uncertain import Place
from privsweep.table.verdicts import Verdict

MOST_SEEDS = MOST_TIMES = 1000
NAMED = 4  # columns; of more the rest is counted


def what_decides(
    table: Table, verdict: Verdict, cells: Mapping[Place, Number], incomplete: Set[Place], scale: str
) -> str:
    """In words what would decide an open claim: runs that are missing, seeds, victims, or more work; else empty.

    ``incomplete``: cells without all of their runs. How many seeds or victims it takes supposes that the difference and
    the spread stay as they are.
    """
    if verdict.holds is not None:
        return ""
    if verdict.leaning is None:
        read = _read(table, verdict, cells)
        lacking = {column for _, column in read & incomplete}
        if lacking:
            return f"waits for {_listed([column.label for c, column in table.columns.items() if c in lacking])}"
        compares = any(table.rows[row].weakened for row, _ in read)
        return "more seeds would decide its cells" if compares else "some of its seeds got there and some did not"
    if verdict.unmet and verdict.short is None:
        if scale != "paper":
            return "needs more work than this scale does"
        whose = "this" if table.place.startswith("ours") else "the paper's"
        return f"{whose} amount of work does not show it"
    margin, it = (verdict.short, "what it presupposes") if verdict.unmet else (verdict.margin, "it")
    if margin is None or margin < 0:
        return "other seeds would tell" if verdict.one_run else ""
    if margin == 0:
        return ""
    if verdict.one_run:
        if margin < MOST_BY_CHANCE / math.sqrt(MOST_TIMES):
            return f"not even {MOST_TIMES:,} times the victims or examples would decide {it}, other seeds might"
        times = math.ceil((MOST_BY_CHANCE / margin) ** 2)  # with few victims it takes fewer: less is then widened
        return f"at most about {times:,} times the victims or examples, or other seeds, would decide {it}"
    seeds = seeds_needed(margin, len(table.seeds))
    return f"about {seeds:,} seeds would decide {it}" if seeds else f"not even {MOST_SEEDS:,} seeds would decide {it}"


def seeds_needed(margin: float, seeds: int) -> int | None:
    """With how many a margin of ``margin`` standard errors over ``seeds`` would count; None beyond ``MOST_SEEDS``."""
    of_one = margin * widened(seeds) / math.sqrt(seeds)  # the difference, in deviations between seeds
    counts = range(seeds + 1, MOST_SEEDS + 1)
    return next((n for n in counts if of_one * math.sqrt(n) > MOST_BY_CHANCE * widened(n)), None)


class _Watched(Mapping[Place, Number]):
    """Cells that remember which of them were read."""

    def __init__(self, cells: Mapping[Place, Number]):
        self.cells, self.read = cells, dict[Place, None]()

    def __getitem__(self, place: Place) -> Number:
        self.read[place] = None
        return self.cells[place]

    def __iter__(self) -> Iterator[Place]:
        return iter(self.cells)

    def __len__(self) -> int:
        return len(self.cells)


def _read(table: Table, verdict: Verdict, cells: Mapping[Place, Number]) -> Set[Place]:
    """The cells that a claim reads."""
    watched = _Watched(cells)
    table.holds(verdict.finding.id, verdict.finding.check, watched)
    return watched.read.keys()


def _listed(labels: list[str]) -> str:
    more = len(labels) - NAMED
    return ", ".join([*(f'"{label}"' for label in labels[:NAMED]), *([f"{more} more"] if more > 0 else [])])
