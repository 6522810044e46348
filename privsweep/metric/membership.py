"""How well an attack tells members from others: accuracy, AUC, and true positives at few false ones, with intervals.

Not torchmetrics': of scores beyond [0, 1], such as likelihood ratios, it takes the sigmoid first, which makes ties of
the extreme ones and moves the AUC by 0.001; its rates are float32, and it knows no standard error.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm, rankdata
from sklearn.metrics import roc_curve

from privsweep.interface.records import Membership, Scores

RATES = {"tpr_at_1_fpr": 0.01, "tpr_at_01_fpr": 0.001}  # false positive rates of 1% and 0.1% (Carlini et al., 2022)
CONFIDENCE = 0.95


def score_membership(guess: Scores, truth: Membership) -> tuple[dict[str, float | None], pd.DataFrame]:
    """Metrics of the whole run, and a table with one row a candidate.

    Metrics, shares from 0 to 1: ``attack_accuracy`` of the attack's own decisions, ``balanced_accuracy`` (mean of
    both classes' accuracies), ``auc`` of the scores, ``tpr_at_1_fpr`` and ``tpr_at_01_fpr`` (members found while at
    most 1% and 0.1% of the others are taken for members). Each with the ends of its 95% interval under ``_low``
    and ``_high``: Clopper and Pearson's for shares, DeLong's for the AUC. The interval of a rate at fixed false
    positives holds for that threshold. Scores that are not finite count as the lowest.

    Of every diagnostic ``<name>_spread``, where members are asked about several times: the standard deviation between
    answers about one record, pooled over records; zero where all are the same.

    Table: ``candidate``, ``index`` (in its split), ``member``, ``score``, ``decision`` and every diagnostic.
    """
    member = truth.member.cpu().numpy()
    scores = guess.scores.detach().cpu().double().numpy()
    scores = np.where(np.isfinite(scores), scores, -np.finfo(float).max)
    decisions = guess.decisions.cpu().numpy()
    hits = decisions == member
    metrics: dict[str, float | None] = {}
    share(metrics, "attack_accuracy", int(hits.sum()), len(hits))
    sides = [hits[member], hits[~member]]
    balanced = float(np.mean([side.mean() for side in sides]))
    spread = norm.ppf((1 + CONFIDENCE) / 2) * np.sqrt(sum(s.var() / len(s) for s in sides)) / 2
    _interval(metrics, "balanced_accuracy", balanced, balanced - spread, balanced + spread)
    area, error = delong(scores[member], scores[~member])
    spread = norm.ppf((1 + CONFIDENCE) / 2) * error
    _interval(metrics, "auc", area, area - spread, area + spread)
    false, true = roc(guess, truth)
    for name, rate in RATES.items():
        reached = float(true[false <= rate].max())
        share(metrics, name, round(reached * int(member.sum())), int(member.sum()))
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


def roc(guess: Scores, truth: Membership) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates over all thresholds, from (0, 0) to (1, 1)."""
    scores = guess.scores.detach().cpu().double().nan_to_num(neginf=-np.finfo(float).max, nan=-np.finfo(float).max)
    false, true, _ = roc_curve(truth.member.cpu().numpy(), scores.numpy(), drop_intermediate=False)
    return false, true


def delong(members: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """The area under the ROC curve, ties counting half, and its standard error (DeLong et al., 1988)."""
    m, n = len(members), len(others)
    both = rankdata(np.concatenate([members, others]))
    above = (both[:m] - rankdata(members)) / n  # share of the others below each member
    below = 1 - (both[m:] - rankdata(others)) / m  # share of the members above each other record
    area = float(above.mean())
    variance = (above.var(ddof=1) / m if m > 1 else 0.0) + (below.var(ddof=1) / n if n > 1 else 0.0)
    return area, float(np.sqrt(variance))


def share(metrics: dict[str, float | None], name: str, hits: int, of: int) -> None:
    """Adds ``name``, the share of ``hits``, and with ``_low`` and ``_high`` the ends of its 95% interval."""
    ends = binomtest(hits, of).proportion_ci(CONFIDENCE)
    _interval(metrics, name, hits / of, ends.low, ends.high)


def _interval(metrics: dict[str, float | None], name: str, value: float, low: float, high: float) -> None:
    metrics[name] = value
    metrics[f"{name}_low"], metrics[f"{name}_high"] = max(0.0, float(low)), min(1.0, float(high))
