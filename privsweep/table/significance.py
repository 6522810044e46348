"""Whether an adaptation weakens an attack, decided from runs with and without it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from privsweep.table.number_format import UNKNOWN, Number
from privsweep.table.strict import Id, Strict

MOST_BY_CHANCE = 2.0  # standard errors; a greater loss counts
RULE = (
    "Yes: over the seeds, the attack's mean score with the adaptation is worse than without it by more than "
    "twice the standard error of their difference; No: otherwise; undecided with fewer than two seeds"
)


class Weakened(Strict):
    """A row that says whether the attack of the row ``adapted`` is weaker than that of the row ``base``."""

    base: Id
    adapted: Id


def weakens(
    base: Sequence[float | None], adapted: Sequence[float | None], higher_is_stronger: bool
) -> tuple[Number, float | None]:
    """1.0 (yes), 0.0 (no) or UNKNOWN, and by how many standard errors the attack got worse (None: unknown).

    N/A, an attack that never got there, is the weakest score of all.
    """
    worst = -math.inf if higher_is_stronger else math.inf
    sides = [[worst if v is None else v for v in values] for values in (base, adapted)]
    if min(map(len, sides)) < 2:
        return UNKNOWN, None
    means = [statistics.fmean(side) for side in sides]
    loss = means[0] - means[1] if higher_is_stronger else means[1] - means[0]
    if not math.isfinite(loss):
        return (UNKNOWN, None) if math.isnan(loss) else (float(loss > 0), None)
    error = math.sqrt(sum(statistics.variance(side) / len(side) for side in sides))
    if error == 0:
        return float(loss > 0), None
    return float(loss > MOST_BY_CHANCE * error), loss / error
