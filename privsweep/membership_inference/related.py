"""How likely a confidence is of a model that trained on a record, and of one that did not, from few models.

A record's own values are weighed against what is common to all records (empirical Bayes). Its two means, out of and in
training, are drawn from one bivariate Gaussian: a record in which models are confident anyway gains less by training.
Its two variances are drawn from scaled inverse chi-square distributions (Smyth, Linear models and empirical Bayes
methods for assessing differential expression, 2004). All are fitted by moments. What is left open of the means widens
the Gaussians.

Whether records differ in more than how sure models are of them anyway, and in their variances, is not the same for all
networks: of such assumptions that one holds with which the models' own records are told best.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from privsweep.metric.membership import delong

_LEAST = 1e-6  # variance of a confidence, in squared logits: of models that agree
_CERTAIN = 1e6  # degrees of freedom of a variance that all records share
_LEAST_GAP = 1e-3  # of the means, in deviations: training on a record does not make a model less sure of it
_HELD_OUT = 8  # pairs of models by which assumptions are judged
_NARROW = 1e-4  # of the two directions of the means, the narrower at least, as a share of the wider


@dataclass(frozen=True)
class Side:
    """What one side's models, out or in, say of every record ``[n]``."""

    count: Tensor
    mean: Tensor  # NaN where there is no model
    squares: Tensor  # sum of squared differences from the mean

    @property
    def free(self) -> Tensor:
        """Degrees of freedom of the squares."""
        return (self.count - 1).clamp_min(0)

    def spread(self, pooled: bool) -> Tensor:
        """Standard deviation ``[n]``, of all records together or of each alone."""
        squares, free = (self.squares.sum(), self.free.sum()) if pooled else (self.squares, self.free)
        return (squares / free.clamp_min(1)).clamp_min(_LEAST).sqrt().expand_as(self.mean)

    def none(self) -> Side:
        """What no model says."""
        return Side(self.count * 0, self.mean * torch.nan, self.squares * 0)


def side(values: Tensor, which: Tensor) -> Side:
    """Of confidences ``[K, n]`` where ``which`` ``[K, n]`` holds, but for those of diverged models: not finite."""
    which = which & values.isfinite()
    count = which.sum(0).to(values.dtype)
    mean = values.where(which, 0.0).sum(0) / count
    return Side(count, mean, (values - mean).square().where(which, 0.0).sum(0))


@dataclass(frozen=True)
class Variance:
    """Whose inverse is drawn from a scaled chi-square distribution, for every record."""

    mean: Tensor
    usual: Tensor  # below the mean, as far as records differ
    free: Tensor  # degrees of freedom that knowing the usual one is worth

    def of(self, seen: Side) -> Tensor:
        """Every record's ``[n]``."""
        return ((self.free * self.usual + seen.squares) / (self.free + seen.free)).clamp_min(_LEAST)


@dataclass(frozen=True)
class Records:
    """What records have in common; out first, then in."""

    mean: Tensor  # [2]
    precision: Tensor  # [2, 2]
    variances: tuple[Variance, Variance]

    def log_ratio(self, target: Tensor, out: Side, into: Side) -> Tensor:
        """Log likelihood ratio of in to out for every record's confidence ``[n]``; either side may have no models.

        It rises with the confidence. Of two Gaussians of different widths it would turn beyond one of them, where a
        target that was trained longer than the models, or less, has its records; there it goes on in a straight line.
        """
        v0, v1 = (var.of(seen) for var, seen in zip(self.variances, (out, into), strict=True))
        told = torch.stack([out.count / v0, into.count / v1], 1)
        left = torch.linalg.inv(self.precision + torch.diag_embed(told))
        means = torch.stack([out.mean, into.mean], 1).nan_to_num()
        expected = (left @ (self.precision @ self.mean + told * means)[..., None])[..., 0]
        v0, v1 = v0 + left[:, 0, 0], v1 + left[:, 1, 1]
        m0 = expected[:, 0]
        gap = (expected[:, 1] - m0).maximum(_LEAST_GAP * v0.sqrt())
        m1, turn = m0 + gap, m0 + gap * v0 / (v0 - v1)  # infinite where both are as wide
        x = torch.where(v1 < v0, target.minimum(turn), target.maximum(turn)).where(turn.isfinite(), target)
        ratio = ((x - m0).square() / v0 - (x - m1).square() / v1 + (v0 / v1).log()) / 2
        return ratio + gap / v0 * (target - x)


class Assumed(NamedTuple):
    """What records may differ in."""

    gaps: bool  # in how much training adds, beyond what follows from how sure models are of them anyway
    variances: bool


def fit(out: Side, into: Side, assumed: Assumed) -> Records:
    """From records that have models on both sides; the others are left out."""
    both = (out.count > 0) & (into.count > 0)
    out, into = (Side(s.count[both], s.mean[both], s.squares[both]) for s in (out, into))
    variances = tuple(_variance(s, out, into, assumed.variances) for s in (out, into))
    means = torch.stack([out.mean, into.mean])
    noise = torch.stack([(v.mean / s.count).mean() for v, s in zip(variances, (out, into), strict=True)])
    apart = means - means.mean(1, keepdim=True)
    spread, axes = torch.linalg.eigh(apart @ apart.T / max(1, means.shape[1] - 1) - noise.diag())
    if not assumed.gaps:
        spread = torch.cat([torch.zeros_like(spread[:1]), spread[1:]])
    spread = spread.clamp_min(_NARROW * spread.max().clamp_min(_LEAST / _NARROW))
    return Records(means.mean(1), axes @ (1 / spread).diag() @ axes.T, (variances[0], variances[1]))


def best(values: Tensor, inside: Tensor, online: bool) -> Assumed:
    """What to assume of records, of whose models' confidences ``[K, n]`` ``inside`` says which trained on them.

    Two models at a time are left out, and what they trained on is told by the others, all of them or, offline, those
    that did not train on a record. The assumptions with the greatest mean AUC are the best.
    """
    found = dict.fromkeys((Assumed(*pair) for pair in product((False, True), repeat=2)), 0.0)
    for first in range(0, min(len(values) - len(values) % 2, 2 * _HELD_OUT), 2):
        rest = [k for k in range(len(values)) if k not in (first, first + 1)]
        out, into = side(values[rest], ~inside[rest]), side(values[rest], inside[rest])
        if not (out.count * into.count).any():
            continue
        for assumed in found:
            records = fit(out, into, assumed)
            for k in (first, first + 1):
                ratio = records.log_ratio(values[k], out, into if online else into.none())
                found[assumed] += _area(ratio, inside[k])
    return max(found, key=found.__getitem__)  # the first, where they tell as much


def _area(scores: Tensor, member: Tensor) -> float:
    """Under the ROC curve; 0.5 where all or none are members, or a score is no number."""
    if member.all() or not member.any() or not scores.isfinite().all():
        return 0.5
    return delong(scores[member].cpu().numpy(), scores[~member].cpu().numpy())[0]


def _variance(one: Side, out: Side, into: Side, own: bool) -> Variance:
    """Of one of the sides. By moments of the logarithms of records' own variances (Smyth, section 6.2)."""
    half = one.free[one.free > 0] / 2
    if not len(half):  # one model a side: the difference of the means has the noise of both, and no other is assumed
        same = (_spread(into.mean - out.mean) / 2).clamp_min(_LEAST)
        return Variance(same, same, half.new_tensor(_CERTAIN))
    mean = (one.squares.sum() / one.free.sum()).clamp_min(_LEAST)
    if not own:
        return Variance(mean, mean, half.new_tensor(_CERTAIN))
    each = one.squares[one.free > 0] / (2 * half)
    logs = each.clamp_min(_LEAST).log() - torch.digamma(half) + half.log()
    beyond = _spread(logs) - torch.polygamma(1, half).mean()
    if beyond <= 1 / _CERTAIN:
        return Variance(mean, mean, half.new_tensor(_CERTAIN))
    prior = _trigamma_inverse(beyond)
    return Variance(mean, (logs.mean() + torch.digamma(prior) - prior.log()).exp(), 2 * prior)


def _spread(x: Tensor) -> Tensor:
    """Variance; 0 of a single one."""
    return (x - x.mean()).square().sum() / max(1, len(x) - 1)


def _trigamma_inverse(value: Tensor) -> Tensor:
    """By Newton's method, which converges from this start for every value above 0 (Smyth, appendix)."""
    x = 0.5 + 1 / value
    for _ in range(20):
        trigamma = torch.polygamma(1, x)
        x = x + trigamma * (1 - trigamma / value) / torch.polygamma(2, x)
    return x
