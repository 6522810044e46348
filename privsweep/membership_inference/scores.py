"""What membership attacks read off a black box's answers, and how they decide without the truth."""

from __future__ import annotations

import torch
from torch import Tensor

_TINY = torch.finfo(torch.float32).tiny  # answers below it, or rounded to zero, count as it


def finite(probabilities: Tensor) -> Tensor:
    """Answers ``[..., classes]``; one that is not finite, of a diverged model, tells all classes alike."""
    told = probabilities.isfinite().all(-1, keepdim=True)
    return torch.where(told, probabilities, 1 / probabilities.shape[-1])


def of_label(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Probabilities ``[..., n]`` of the true labels ``[n]``, from those of all classes ``[..., n, classes]``."""
    return probabilities.gather(-1, labels.expand(probabilities.shape[:-1])[..., None])[..., 0]


def confidence(probabilities: Tensor, labels: Tensor) -> Tensor:
    """``log(p / (1 - p))`` of the true labels' probabilities p, float64 (Carlini et al., 2022, section V.B).

    1 - p is summed over the other classes, for it would cancel where p is near 1.
    """
    p = of_label(probabilities, labels).double()
    hits = torch.nn.functional.one_hot(labels, probabilities.shape[-1]).bool()
    others = probabilities.double().masked_fill(hits, 0.0).sum(-1)
    return p.clamp_min(_TINY).log() - others.clamp_min(_TINY).log()


def stand_out(scores: Tensor, prior: Tensor) -> Tensor:
    """Which candidates, bool ``[M]``, score above the threshold at which they differ most from public records.

    No record of ``prior`` ``[P]`` is a member. Of candidates the share ``s M + (1 - s) N`` exceeds a threshold, M of
    the members and N of the others. N is read off the public records, so where the shares of candidates and of
    public records are furthest apart, M - N is greatest too, whatever share s are members.
    """
    scores, prior = scores.double(), prior.double()
    thresholds = scores.unique()
    above = [1 - torch.searchsorted(s.sort().values, thresholds) / len(s) for s in (scores, prior)]
    return scores >= thresholds[(above[0] - above[1]).argmax()]
