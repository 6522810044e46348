"""Weights on a common scale: every coordinate centred by its mean over shadow models, in its own deviations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

_NUMBERS = 2**24  # read at once


@dataclass(frozen=True)
class Standardisation:
    """Maps rows of weights ``[..., P]``; a coordinate that is the same for all shadows becomes zero.

    A coordinate that few records touch lies many deviations off where one does: ``limit`` cuts it off.
    """

    mean: Tensor  # float32 [P]
    scale: Tensor  # float32 [P]: one over the deviation (of the population), or zero
    limit: float  # deviations

    def __call__(self, weights: Tensor) -> Tensor:
        return ((weights - self.mean) * self.scale).clamp(-self.limit, self.limit)

    def moved(self, by: Tensor) -> Standardisation:
        """The same around a mean that lies ``by`` ``[P]`` further."""
        return replace(self, mean=self.mean + by)


def fit_standardisation(weights: Tensor, device: torch.device, limit: float) -> tuple[Standardisation, Tensor]:
    """From rows ``[K, P]``, read once and in order, and which of them are finite, bool ``[K]``: the others are skipped.

    Sums are float64, of differences from the first finite row, so that little is lost where coordinates vary little.
    """
    count, numbers = weights.shape
    finite = torch.zeros(count, dtype=torch.bool)
    origin: Tensor | None = None
    total = torch.zeros(numbers, dtype=torch.float64, device=device)
    squares = torch.zeros_like(total)
    for rows in torch.arange(count).split(max(1, _NUMBERS // numbers)):
        part = weights[rows[0] : rows[-1] + 1].to(device)
        good = part.isfinite().all(1)
        finite[rows] = good.cpu()
        part = part[good].double()
        if not len(part):
            continue
        origin = part[0].clone() if origin is None else origin
        part -= origin
        total += part.sum(0)
        squares += part.square_().sum(0)
    used = max(1, int(finite.sum()))
    shift = total / used
    deviation = (squares / used - shift.square()).clamp_min(0).sqrt()
    mean = shift if origin is None else origin + shift
    scale = torch.where(deviation > torch.finfo(torch.float32).tiny, 1 / deviation, 0.0)
    return Standardisation(mean.float(), scale.float(), limit), finite
