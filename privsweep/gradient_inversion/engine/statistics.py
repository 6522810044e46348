"""How batch statistics take part in gradient matching: those of dummy images against those that are wanted.

A penalty beside the distance between gradients. Yin et al., "See through gradients" (CVPR 2021), section 3.3, pull
images towards the running statistics of training; Huang et al., "Evaluating gradient inversion attacks and defenses"
(NeurIPS 2021), section 4, towards the exact statistics of the victim's batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn


class Moments(NamedTuple):
    """Of what reaches a layer, every channel of every victim's batch: ``[V, C]``, the variance without correction."""

    mean: Tensor
    variance: Tensor


class Penalty(NamedTuple):
    """How far moments are from those wanted, and the derivatives of the sum."""

    value: Tensor  # [V]
    by_mean: Tensor  # [V, C]
    by_variance: Tensor  # [V, C]


@dataclass(frozen=True)
class Wanted:
    """The moments of one layer, and what ``weight`` times the mean over channels of their distance adds.

    The distance is ``(mean - wanted mean)^2 / wanted variance`` and the squared logarithm of
    ``variance / wanted variance``, both with the layer's ``eps``. ``shares``: how much each of a client's batches
    counts, in their order, where there are several.
    """

    moments: Moments
    weight: float
    eps: float
    shares: tuple[float, ...] = (1.0,)

    def penalty(self, own: Moments) -> Penalty:
        scale = self.weight / own.mean.shape[1]
        expected, variance = self.moments.variance + self.eps, own.variance + self.eps
        shift, log = own.mean - self.moments.mean, (variance / expected).log()
        value = scale * (shift.square() / expected + log.square()).sum(1)
        return Penalty(value, 2 * scale * shift / expected, 2 * scale * log / variance)

    def of(self, moments: Iterable[Tensor]) -> Self:
        """The same of other moments."""
        return type(self)(Moments(*moments), self.weight, self.eps, self.shares)

    def take(self, rows: Tensor | slice) -> Self:
        return self.of(t[rows] for t in self.moments)

    def double(self) -> Self:
        return self.of(t.double() for t in self.moments)


def penalty_of_one(reached: Mapping[str, Sequence[Tensor]], wanted: Mapping[str, Wanted]) -> Tensor:
    """A number: of the batches that reached the layers, ``[B, C, ...]`` each, of one victim, which ``wanted`` is of."""
    total: Tensor | int = 0
    for name, batches in reached.items():
        each = [torch.var_mean(z, [d for d in range(z.dim()) if d != 1], correction=0) for z in batches]
        shares = wanted[name].shares
        clients = len(batches) // len(shares)
        weighed = [
            (share * variance / clients, share * mean / clients)
            for share, (variance, mean) in zip(shares * clients, each, strict=True)
        ]
        variance, mean = (torch.stack(part).sum(0, keepdim=True) for part in zip(*weighed, strict=True))
        total = total + wanted[name].penalty(Moments(mean, variance)).value
    assert isinstance(total, Tensor)
    return total[0]


@contextmanager
def inputs_of(model: nn.Module, layers: Iterable[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What reaches the named layers, each time that the model is called."""
    found: dict[str, list[Tensor]] = {}

    def watch(name: str) -> torch.utils.hooks.RemovableHandle:
        layer = model.get_submodule(name)
        return layer.register_forward_pre_hook(lambda _, given: found.setdefault(name, []).append(given[0]))

    handles = [watch(name) for name in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
