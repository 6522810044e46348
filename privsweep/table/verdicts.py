"""What becomes of a claim: held, not held, or undecided while what it compares differs by no more than noise."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass

from privsweep.table.number_format import Number
from privsweep.table.parts import Finding
from privsweep.table.significance import BY_STUDENT, MOST_BY_CHANCE
from privsweep.table.spec import Table
from privsweep.table.uncertain import Errors, Noise, Place

RULE = (
    "A claim is decided where what it compares differs by more than twice the standard error: over the seeds; with one "
    "seed over the victims, candidates or test examples of that one run, though another run may be farther from it, "
    f"and a number that one run measures once decides nothing; {BY_STUDENT}; how many comparisons a claim makes is not "
    "allowed for: where one of many is enough, a margin little above two may be chance"
)

BY_ONE_SEED = (
    "That a share of victims is above none is decided by the seed that shows it best, over the victims of its run: no "
    "seed's can be below"
)


@dataclass(frozen=True)
class Verdict:
    finding: Finding
    holds: bool | None  # None: undecided
    in_print: bool | None
    leaning: bool | None  # of the numbers as they are; None where some are missing or N/A
    margin: float | None  # standard errors by which it leans; infinite where nothing that decides it varies
    one_run: bool = False  # one seed: errors are those within a run
    unmet: bool = False  # what it presupposes is not shown
    short: float | None = None  # of what is not shown, by how many standard errors it leans to hold; None: it does not
    explained: bool | None = None  # of a claim that does not hold; None where that is undecided, or nothing is said
    more: str = ""  # what it would take to decide it; empty where it is decided, or where nothing can be said

    @property
    def margin_text(self) -> str:
        """Empty where there is nothing to say."""
        if self.unmet:
            return "what it presupposes is not shown"
        if self.margin is None:
            return ""
        within = " within one run" if self.one_run else ""
        errors = f"by {self._margin_as_text()} standard errors"
        if self.holds is not None:
            return "no spread in what decides it" if math.isinf(self.margin) else errors + within
        way = "holds" if self.leaning else "fails"
        if self.margin < 0:
            return f"{way}, with an unknown error"
        return f"{way} {errors} only{within}" if self.margin else f"{way}, by two that are equal"

    def _margin_as_text(self) -> str:
        """On the right side of what decides."""
        margin = self.margin or 0.0
        near = abs(margin - MOST_BY_CHANCE) < 0.05
        return f"{margin:.{3 if near else 1}f}"


def judged(table: Table, finding: Finding, cells: Mapping[Place, Number], errors: Errors) -> Verdict:
    """A claim over cells (row, column) in the printed unit."""
    in_print, one_run = table.in_print(finding), len(table.seeds) == 1
    leaning, margin = _margin(table, finding.check, finding.id, cells, errors)
    if leaning is not None and finding.presupposes is not None:
        given, by = _margin(table, finding.presupposes, finding.id, cells, errors)
        if not given or not _enough(by):
            return Verdict(finding, None, in_print, leaning, margin, one_run, unmet=True, short=by if given else None)
    holds = leaning if _enough(margin) else None
    explained = None
    if holds is False and finding.explained is not None:
        so, by = _margin(table, finding.explained.check, finding.id, cells, errors)
        explained = so if _enough(by) else None
    return Verdict(finding, holds, in_print, leaning, margin, one_run, explained=explained)


def _enough(margin: float | None) -> bool:
    return margin is not None and margin > MOST_BY_CHANCE


def _margin(
    table: Table, check: str, name: str, cells: Mapping[Place, Number], errors: Errors
) -> tuple[bool | None, float | None]:
    """What the numbers say as they are, and how many standard errors may be taken for noise until they do not."""
    raw = Noise(errors, -1.0)
    leaning = table.holds(name, check, cells, raw)
    if leaning is None:
        return None, None
    steps = sorted({*raw.met, math.inf})
    # The more is taken for noise, the less is decided.
    first = bisect_left(steps, True, key=lambda step: table.holds(name, check, cells, Noise(errors, step)) is None)
    return leaning, steps[first] if first < len(steps) else math.inf
