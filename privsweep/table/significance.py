"""What a difference over seeds must exceed, and whether an adaptation weakens an attack by as much."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache

from privsweep.table.number_format import UNKNOWN, Number
from privsweep.table.strict import Id, Strict
from privsweep.table.uncertain import ROUNDING

MOST_BY_CHANCE = 2.0  # standard errors; a greater difference counts
BY_STUDENT = "a standard error over few is widened as Student's t asks: 7 times over two, 2.3 times over three"
LEAST = 0.05  # of what the score without an adaptation is above chance: a weakening below it is none
RULE = (
    "Yes: the attack's score with the adaptation is worse than without it, seed by seed, by more than twice the "
    "standard error of their mean difference; No: it is better by as much, or twice the standard error beyond the "
    f"difference is not yet {LEAST:.0%} of the score without it, above what chance gives where that is not 0; "
    "undecided otherwise, and with fewer than two seeds"
)


class Weakened(Strict):
    """A row that says whether the attack of the row ``adapted`` is weaker than that of the row ``base``."""

    base: Id
    adapted: Id
    chance: float = 0.0  # the score of an attack that knows nothing, in the printed unit


def error_of_mean(numbers: Sequence[float]) -> float:
    """Of two or more seeds or victims: twice it is exceeded by chance as seldom as two normal standard errors.

    The usual standard error times Student's quantile at that level over two; 7.0, 2.3, 1.7, 1.4 for 2 to 5 numbers.
    """
    return widened(len(numbers)) * statistics.stdev(numbers) / math.sqrt(len(numbers))


@cache
def widened(count: int) -> float:
    """What a standard error over ``count`` (two or more) numbers is multiplied by."""
    from scipy.special import ndtr, stdtrit  # here: commands that judge nothing do without

    return float(-stdtrit(count - 1, ndtr(-MOST_BY_CHANCE)) / MOST_BY_CHANCE)


def weakens(
    base: Mapping[int, float | None],
    adapted: Mapping[int, float | None],
    higher_is_stronger: bool,
    chance: float = 0.0,
    least: float = 0.0,
) -> tuple[Number, float | None]:
    """1.0 (yes), 0.0 (no) or UNKNOWN, and by how many standard errors the attack got worse (None: unknown).

    Scores by seed, of the same seeds. N/A, an attack that never got there, is the weakest score of all; where that
    happens in some seeds only, nothing is decided. No is a statement, too: the attack got better by
    more than the error of the comparison, or a weakening by ``LEAST`` is ruled out. ``least``: that error where it is
    the same under every seed, as shares of few victims may be by chance.
    """
    if len(base) < 2:
        return UNKNOWN, None
    never = [[v is None for v in side.values()] for side in (base, adapted)]
    if any(any(side) and not all(side) for side in never):
        return UNKNOWN, None
    if any(map(any, never)):
        return float(all(never[1]) and not any(never[0])), None
    sign = 1.0 if higher_is_stronger else -1.0
    losses = [sign * (b - a) for s in base if (b := base[s]) is not None and (a := adapted[s]) is not None]
    loss, error = statistics.fmean(losses), error_of_mean(losses)
    if max(losses) - min(losses) <= ROUNDING * max(map(abs, losses)):
        error = least
    if error == 0:
        return float(loss > 0), None
    little = LEAST * abs(statistics.fmean(b for b in base.values() if b is not None) - chance)
    if loss > MOST_BY_CHANCE * error:
        return 1.0, loss / error
    none = loss < -MOST_BY_CHANCE * error or loss + MOST_BY_CHANCE * error < little
    return 0.0 if none else UNKNOWN, loss / error
