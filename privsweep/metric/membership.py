"""How well an attack tells members from others: accuracy, AUC, and true positives at few false ones, with intervals.

Not torchmetrics': of scores beyond [0, 1], such as likelihood ratios, it takes the sigmoid first, which makes ties of
the extreme ones and moves the AUC by 0.001; its rates are float32, and it knows no standard error.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import binom, binomtest, norm, rankdata
from sklearn.metrics import roc_curve
from torch import Tensor

from privsweep.interface.guess import Scores
from privsweep.interface.truth import Membership
from privsweep.metric.empirical_epsilon import (
    DELTA,
    of_gaussian_trainings,
    of_one_gaussian_training,
    of_one_training,
    of_trainings,
)
from privsweep.metric.names import CONFIDENCE, RATES

_TINY = 1e-12
_DEVIATIONS = norm.ppf((1 + CONFIDENCE) / 2)


def score_membership(
    guess: Scores, truth: Membership, delta: float | None = None
) -> tuple[dict[str, float | None], pd.DataFrame]:
    """Metrics of the whole run, and a table with one row a candidate.

    Metrics, shares from 0 to 1: ``attack_accuracy`` of the attack's own decisions, ``balanced_accuracy`` (mean of
    both classes' accuracies), ``auc`` of the scores, ``tpr_at_1_fpr`` and ``tpr_at_01_fpr`` (members found while at
    most 1% and 0.1% of the others are taken for members). Each with the ends of its 95% interval under ``_low``
    and ``_high``: Clopper and Pearson's for shares, Newcombe's for the balanced accuracy, DeLong's on the scale of log
    odds for the AUC or, where that has no width, Newcombe's; None for these two where there is one member or one other
    record alone. The interval of a rate at fixed false positives allows for the threshold, too, which is the others'
    of this run: with fewer than 1000 of them the rate at 0.1% is the one at none. A score that is NaN
    counts as the lowest, infinite ones as the lowest and the highest.

    ``empirical_epsilon`` is the largest epsilon that these successes refute with 95% confidence, at the ``delta`` of a
    budget, or 1e-5 where there is none; ``gaussian_epsilon`` is the one if the training is a Gaussian mechanism, and
    None without a budget that has a delta, which comes of such noise. Of updates, all together, they are those of one
    message; both are None where no pair of a member and another record is fair.

    Of every diagnostic ``<name>_spread``, where members are asked about several times: the standard deviation between
    answers about one record, pooled over records; zero where all are the same.

    Table: ``candidate``, ``index`` (in its split), ``member``, ``score``, ``decision`` and every diagnostic.
    """
    member = truth.member.cpu().numpy()
    scores = ordered(guess)
    decisions = guess.decisions.cpu().numpy()
    hits = decisions == member
    metrics: dict[str, float | None] = {}
    share(metrics, "attack_accuracy", int(hits.sum()), len(hits))
    sides = [hits[member], hits[~member]]
    several = min(map(len, sides)) > 1
    balanced = float(np.mean([side.mean() for side in sides]))
    ends = mean_share_ends(*((int(side.sum()), len(side)) for side in sides)) if several else None
    _interval(metrics, "balanced_accuracy", balanced, ends)
    metrics |= area_with_interval("auc", scores[member], scores[~member])
    false, true = roc(guess, truth.member)
    for name, rate in RATES.items():
        reached = float(true[false <= rate].max())
        _interval(metrics, name, reached, rate_ends(scores[member], scores[~member], rate))
    if truth.among == "trainings":
        found, taken = ((int(side.sum()), len(side)) for side in (decisions[member], decisions[~member]))
        metrics["empirical_epsilon"] = of_trainings(found, taken, DELTA if delta is None else delta)
        metrics["gaussian_epsilon"] = of_gaussian_trainings(found, taken, delta) if delta else None
    else:
        pairs = _fair_pairs(scores, member, truth.fair)
        metrics["empirical_epsilon"] = pairs and of_one_training(*pairs, DELTA if delta is None else delta)
        metrics["gaussian_epsilon"] = of_one_gaussian_training(*pairs, delta) if pairs and delta else None
    rows = pd.DataFrame({"candidate": range(len(member)), "index": truth.index.cpu().numpy(), "member": member})
    rows["score"], rows["decision"] = scores, decisions
    for name, values in guess.diagnostics.items():
        rows[name] = values.detach().cpu().numpy()
        spread = _spread(rows.loc[member, "index"], rows.loc[member, name])
        metrics |= {} if spread is None else {f"{name}_spread": spread}
    return metrics, rows


def _spread(record: pd.Series, values: pd.Series) -> float | None:
    """Pooled standard deviation of values of the same record; None where every record has one."""
    apart = values.astype(float) - values.astype(float).groupby(record).transform("mean")
    free = len(record) - record.nunique()
    return float(np.sqrt(apart.pow(2).sum() / free)) if free and np.isfinite(apart).all() else None


def _fair_pairs(scores: np.ndarray, member: np.ndarray, fair: Tensor | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Scores of members and of others, the n-th beside the n-th; None where there is none."""
    if fair is None:
        return scores[member], scores[~member]
    each = fair.cpu().numpy()
    kept = each[member] & each[~member]
    return (scores[member][kept], scores[~member][kept]) if kept.any() else None


def roc(guess: Scores, true: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates over all thresholds, from (0, 0) to (1, 1); ``true`` is bool ``[M]``."""
    false, found, _ = roc_curve(true.cpu().numpy(), ordered(guess), drop_intermediate=False)
    return false, found


def ordered(guess: Scores) -> np.ndarray:
    """Finite scores, float64: NaN is the lowest."""
    most = np.finfo(float).max
    return guess.scores.detach().cpu().double().nan_to_num(nan=-most, posinf=most, neginf=-most).numpy()


def delong(members: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The area under the ROC curve, ties counting half, and its standard error (DeLong et al., 1988)."""
    m, n = len(members), len(others)
    both = rankdata(np.concatenate([members, others]))
    above = (both[:m] - rankdata(members)) / n  # share of the others below each member
    below = 1 - (both[m:] - rankdata(others)) / m  # share of the members above each other record
    area = float(above.mean())
    variance = (above.var(ddof=1) / m if m > 1 else 0.0) + (below.var(ddof=1) / n if n > 1 else 0.0)
    return area, float(np.sqrt(variance))


def area_with_interval(name: str, members: np.ndarray, others: np.ndarray) -> dict[str, float | None]:
    """The area under the ROC curve as ``name``, and the ends of its 95% interval, as ``score_membership`` has them."""
    found: dict[str, float | None] = {}
    sizes = len(members), len(others)
    area, error = delong(members, others)
    ends = _by_odds(area, error) if error else area_ends(area, *sizes)
    _interval(found, name, area, ends if min(sizes) > 1 else None)
    return found


def _by_odds(area: float, error: float) -> tuple[float, float]:
    """The 95% interval about an area between 0 and 1: symmetric in its log odds, or it would say too much near 1."""
    spread = _DEVIATIONS * error / (area * (1 - area))
    return float(expit(logit(area) - spread)), float(expit(logit(area) + spread))


def rate_ends(members: np.ndarray, others: np.ndarray, rate: float) -> tuple[float, float]:
    """The 95% interval of the share of all members above the score that the share ``rate`` of all others exceeds.

    How many of ``others`` exceed that score is binomial, which leaves it between two of theirs, and the share between
    those of ``members`` above either; at one score the share has Clopper and Pearson's ends. The distances of the two
    from the estimate are squared and added, as Newcombe does.
    """
    tail, ranked = (1 - CONFIDENCE) / 2, np.sort(others)[::-1]

    def above(count: int) -> int:
        """Members above the score that ``count`` of the others exceed."""
        return int((members > ranked[count]).sum()) if count < len(others) else len(members)

    counts = binom.ppf([tail, 1 - tail], len(others), rate)
    fewest, most = max(0, int(counts[0]) - 1), int(counts[1])
    middle = above(int(rate * len(others) + _TINY))
    ends = binomtest(middle, len(members)).proportion_ci(CONFIDENCE)
    share = middle / len(members)
    strict = above(fewest) / len(members) if counts[0] else 0.0
    low = share - np.hypot(share - ends.low, share - strict)
    high = share + np.hypot(ends.high - share, above(most) / len(members) - share)
    return float(low), float(high)


def area_ends(area: float, members: int, others: int) -> tuple[float, float]:
    """The 95% interval of an area under the ROC curve, of some width also at 0 and at 1.

    It holds the areas whose own standard error, Hanley and McNeil's with both sides taken for of their mean size, lets
    ``area`` be within it (Newcombe, Statistics in Medicine 25, 2006, 559-573, method 5).
    """
    more = (members + others) / 2 - 1

    def beyond(true: float) -> float:
        """Above zero where ``area`` is too far from ``true``."""
        scale = 1 + more * ((1 - true) / (2 - true) + true / (1 + true))
        return (area - true) ** 2 - _DEVIATIONS**2 * true * (1 - true) * scale / (members * others)

    # Of 0 and 1 themselves the error is zero, which is no end of the interval.
    low = brentq(beyond, 0.0, min(area, 1 - _TINY)) if area > 0 else 0.0
    high = brentq(beyond, max(area, _TINY), 1.0) if area < 1 else 1.0
    return float(low), float(high)


def mean_share_ends(one: tuple[int, int], other: tuple[int, int]) -> tuple[float, float]:
    """The 95% interval of the mean of two shares, each hits of so many.

    From Wilson's of either (Newcombe, Statistics in Medicine 17, 1998, 873-890, method 10).
    """
    shares = [hits / of for hits, of in (one, other)]
    each = [binomtest(hits, of).proportion_ci(CONFIDENCE, method="wilson") for hits, of in (one, other)]
    middle = sum(shares) / 2
    below = np.hypot(*(p - ends.low for p, ends in zip(shares, each, strict=True))) / 2
    above = np.hypot(*(ends.high - p for p, ends in zip(shares, each, strict=True))) / 2
    return float(middle - below), float(middle + above)


def share(metrics: dict[str, float | None], name: str, hits: int, of: int) -> None:
    """Adds ``name``, the share of ``hits``, and with ``_low`` and ``_high`` the ends of its 95% interval."""
    ends = binomtest(hits, of).proportion_ci(CONFIDENCE)
    _interval(metrics, name, hits / of, (ends.low, ends.high))


def _interval(metrics: dict[str, float | None], name: str, value: float, ends: tuple[float, float] | None) -> None:
    low, high = (None, None) if ends is None else (max(0.0, float(ends[0])), min(1.0, float(ends[1])))
    metrics |= {name: value, f"{name}_low": low, f"{name}_high": high}
