"""Gradient compression: entries of small magnitude are set to zero."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from privsweep.compiled.entries import First, pruned
from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng

_FIRST = {
    "rest": First.LEAST_MAGNITUDE,
    "largest": First.LEAST_MAGNITUDE,
    "not_largest": First.LARGEST_MAGNITUDE,
    "not_lowest": First.LOWEST,
}


@component
class GradientPruning(Defense):
    """Sets the smallest entries of a gradient to zero, in every training step and in a captured one.

    Exactly ``fraction`` of the entries, rounded to a whole number, are pruned (``keep: rest``) or are the only
    ones to stay (``keep: largest``). Of equal magnitudes the earlier ones are pruned, and what is no number last.
    ``fraction=0``, or 1 with ``keep: largest``, is no defence.

    PRECODE, section 5.2, prunes the smallest 10%, and reports that training then fails, as it does where
    only the largest 10% are kept: both readings are here. Zhu et al. (2019) prune 1% to 70%. Two slips in code would
    ruin training as well: ``keep: not_largest`` prunes the largest magnitudes, and ``keep: not_lowest`` the lowest
    values, the most negative ones, as a quantile of values instead of magnitudes does.
    """

    fraction: Annotated[float, Field(ge=0, le=1)]
    keep: Literal["rest", "largest", "not_largest", "not_lowest"]
    scope: Literal["global", "tensor"]

    answered_by: ClassVar[Mapping[str, str]] = {"only_nonzero": "true"}

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        if self.fraction == (1 if self.keep == "largest" else 0):
            return grad
        together = [[name] for name in grad] if self.scope == "tensor" else [[*grad]]
        parts = [zip(names, self._prune([grad[name] for name in names]), strict=True) for names in together]
        return dict(chain.from_iterable(parts))

    def _prune(self, parts: Sequence[Tensor]) -> Sequence[Tensor]:
        """Of the entries of all together."""
        total = sum(g.numel() for g in parts)
        chosen = round(self.fraction * total)
        count = total - chosen if self.keep == "largest" else chosen
        if count == 0:
            return parts
        compiled = pruned(parts, count, _FIRST[self.keep])
        if compiled is not None:
            return compiled
        flat = torch.cat([g.flatten() for g in parts])
        size = flat if self.keep == "not_lowest" else flat.abs()  # the least of these go
        if self.keep == "not_largest":
            size = -size
        size = torch.where(size.isnan(), math.inf, size)
        bound = _smallest(size, count)
        below, level = size < bound, size == bound
        # of the entries at the bound, as many as the exact count still lacks
        gone = below | (level & (level.cumsum(0, dtype=torch.int32) <= count - below.sum()))
        left = torch.where(gone, 0.0, flat).split([g.numel() for g in parts])
        return [one.view_as(g) for one, g in zip(left, parts, strict=True)]


def _smallest(size: Tensor, count: int) -> Tensor:
    """The ``count``-th smallest entry; ``topk``, unlike ``kthvalue``, spreads one long row over a whole GPU."""
    if 2 * count <= len(size):
        return size.topk(count, largest=False, sorted=False).values.amax()
    return size.topk(len(size) - count + 1, sorted=False).values.amin()
