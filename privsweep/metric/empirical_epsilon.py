"""The privacy budget that an attack's successes refute: a lower bound of epsilon, with 95% confidence."""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri
from scipy.stats import binom, binomtest, norm

from privsweep.metric.names import CONFIDENCE

DELTA = 1e-5  # where no defence states one
_FEWEST = 8  # guesses, for fewer refute next to nothing
_LARGEST = 50.0  # epsilon: a guess is right but once in 1e22
_EXACT = 1e-6  # deviations
_FARTHEST = 80.0  # deviations between means: numbers end before what is wrong with so much of them


def of_one_training(members: np.ndarray, others: np.ndarray, delta: float) -> float:
    """From the scores of members and of other records of one trained model.

    Which record of a pair of a member and another was trained on is a fair coin, where both come from one
    distribution. The attack guesses it by the higher score, and abstains where scores are close. Of a training that is
    (epsilon, delta)-differentially private as to which record of a pair it has, guesses are hardly right more often
    than a binomial variable of probability ``1 / (1 + exp(-epsilon))`` (Steinke, Nasr and Jagielski, "Privacy Auditing
    with One (1) Training Run", 2023, theorem 5.2). How many pairs it guesses is chosen among all, half, a quarter and
    so on, each at its share of the error (Bonferroni).

    To replace a record is to blank one and to fill in another: what is returned is the ``epsilon`` of one of the two,
    at ``delta``, as accountants state it. Zero where the attack shows none. Equal scores count as a wrong guess.
    """
    pairs, guesses, allowed = _guesses(members, others)
    shown = [_refuted(pairs, n, right, delta, allowed) for n, right in guesses]
    return max(shown, default=0.0)


def of_one_gaussian_training(members: np.ndarray, others: np.ndarray, delta: float) -> float:
    """As ``of_one_training``, by the same guesses, of a training that is as private as one draw of Gaussian noise is.

    Such are steps on all records with Gaussian noise. Many steps on a few that are drawn are nearly so; of few such
    steps what is returned may be too much.

    As often as a guess about one pair is wrong, it is right at most as often as of a test of two Gaussians. So it is,
    too, while at least so many of the other pairs are guessed rightly, and from that follows how likely so many right
    guesses are (Mahloujifar, Melis and Chaudhuri, "Auditing f-Differential Privacy in One Run", 2025). To replace a
    record moves the mean at most twice as far as to blank it.

    This allows for a training that tells of all pairs at once, if rarely. Of one that tells of each pair by itself less
    is shown than there is: by a thousand pairs about 3.3 of an epsilon of 8, and 4.1 of whatever tells them all.
    """
    if delta <= 0:
        return 0.0
    pairs, guesses, allowed = _guesses(members, others)
    apart = 0.0  # in deviations, what is refuted so far
    for n, right in guesses:
        low, high = apart, _FARTHEST
        if not _too_many(pairs, n, right, low, allowed):
            continue
        while high - low > _EXACT:
            middle = (low + high) / 2
            low, high = (middle, high) if _too_many(pairs, n, right, middle, allowed) else (low, middle)
        apart = low
    return _of_gaussians(apart / 2, delta)


def of_trainings(found: tuple[int, int], false: tuple[int, int], delta: float) -> float:
    """From decisions about models that were trained one by one: with the record in question, and with it blanked.

    ``found``: members that were taken for such, and how many there were; ``false``: others that were, and theirs. Of
    (epsilon, delta)-differentially private trainings the rate of one is at most ``exp(epsilon)`` times that of the
    other, plus ``delta``, and so it is of the records that were taken for others. Either rate with Clopper and
    Pearson's bound at half of the error (Jagielski, Ullman and Oprea, 2020, section 4).
    """
    least, often = _bounds(found, false)
    ratios = [(least - delta) / often, (1 - often - delta) / (1 - least)]
    return max(0.0, float(np.log(max([*ratios, 1.0]))))


def of_gaussian_trainings(found: tuple[int, int], false: tuple[int, int], delta: float) -> float:
    """As ``of_trainings``, of trainings that are as private as one draw of Gaussian noise is.

    Such are steps on all records with Gaussian noise, and nearly so many steps on a few. The two rates then tell how
    far apart the noise's means are (Nasr et al., "Tight Auditing of Differentially Private Machine Learning", 2023,
    section 4), and so the epsilon at ``delta``, which rates of few models could never show by themselves.
    """
    least, often = _bounds(found, false)
    return _of_gaussians(float(norm.ppf(least) - norm.ppf(often)), delta)


def _of_gaussians(apart: float, delta: float) -> float:
    """The epsilon at ``delta`` of telling two of them, whose means are so many deviations apart."""
    if apart <= 0 or delta <= 0:
        return 0.0

    def excess(epsilon: float) -> float:
        """Of the delta at this epsilon, by Dong, Roth and Su, "Gaussian Differential Privacy" (2022), corollary 1."""
        above, below = apart / 2 - epsilon / apart, -apart / 2 - epsilon / apart
        return float(norm.cdf(above) - np.exp(epsilon + norm.logcdf(below))) - delta

    # Beyond the second end the first of the two terms alone is below delta.
    return float(brentq(excess, 0.0, apart * (apart / 2 - norm.ppf(delta)))) if excess(0.0) > 0 else 0.0


def _bounds(found: tuple[int, int], false: tuple[int, int]) -> tuple[float, float]:
    """The least rate of the one and the largest of the other; 0 and 1 where there is none."""
    least = binomtest(*found).proportion_ci(CONFIDENCE).low if found[1] else 0.0
    often = binomtest(*false).proportion_ci(CONFIDENCE).high if false[1] else 1.0
    return float(least), float(often)


def _guesses(members: np.ndarray, others: np.ndarray) -> tuple[int, list[tuple[int, int]], float]:
    """The pairs there are; how many of them are guessed, and how many rightly, by each choice; each one's error."""
    pairs = min(len(members), len(others))
    with np.errstate(over="ignore"):  # scores as far apart as numbers go
        apart = members[:pairs] - others[:pairs]
    right = (apart > 0)[np.argsort(-np.abs(apart), kind="stable")]
    choices = [pairs >> k for k in range(pairs.bit_length()) if pairs >> k >= _FEWEST]
    return pairs, [(n, int(right[:n].sum())) for n in choices], (1 - CONFIDENCE) / max(len(choices), 1)


def _refuted(pairs: int, guesses: int, right: int, delta: float, allowed: float) -> float:
    """The largest epsilon with which so many would be right with a probability of at most ``allowed``; else zero."""

    def excess(epsilon: float) -> float:
        # Two records, so twice epsilon, and delta once more by what one of them makes likelier.
        return _probability(pairs, guesses, right, 2 * epsilon, delta * (1 + np.exp(epsilon))) - allowed

    if excess(0.0) >= 0:
        return 0.0
    return float(brentq(excess, 0.0, _LARGEST, xtol=1e-6))


def _probability(pairs: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Of at least so many right guesses, at most."""
    chance = 1 / (1 + np.exp(-epsilon))
    likely = float(binom.sf(right - 1, guesses, chance))
    fewer = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))  # by up to 1, 2, ... than so many
    steepest = float((fewer / np.arange(1, right + 1)).max(initial=0.0))
    return min(1.0, likely + 2 * pairs * delta * steepest)


def _too_many(pairs: int, guesses: int, right: int, apart: float, allowed: float) -> bool:
    """Whether so many are right less often than ``allowed``, where replacing a record moves the mean by ``apart``.

    Suppose they are, as often as that. Let ``rightly`` and ``wrongly`` be how often a pair is guessed so while at least
    ``k`` guesses are right. That one pair is right and ``k`` others are, too, makes ``k + 1``; that it is wrong and
    they are right makes ``k``: of the first at ``k + 1`` follows the least of the second at ``k``, down to none.
    Refuted is what takes more than there is. To have more right guesses than ``right`` would take no less.
    """
    rightly, wrongly = allowed * right / pairs, allowed * (guesses - right) / pairs
    for k in range(right - 1, -1, -1):
        needed = float(ndtr(ndtri(rightly) - apart))
        if needed <= wrongly:  # and so for all fewer
            return False
        rightly += k / (guesses - k) * (needed - wrongly)  # while exactly ``k`` are
        wrongly = needed
        if rightly + wrongly > guesses / pairs:
            return True
    return False
