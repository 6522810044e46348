"""Which way two groups of gradients differ beyond their spread: Fisher's discriminant, by products of gradients alone.

Axes: ``P`` gradients of the adversary's own examples, ``V`` updates, ``C`` ways to make a direction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from privsweep.interface.randomness import Rng

_RIDGES = tuple(10.0**power for power in range(-5, 2))  # of the mean variance along a direction
_SHORTENED = (1.0, 0.75, 0.5, 0.25)  # to the length that this share of gradients have at most
_FOLDS = 4
_BATCHES = 100  # of either kind that are simulated for every part
FEWEST = 2 * _FOLDS  # of either group: two in every part
LEAST = 5 * FEWEST  # gradients in all
_TINY = 1e-30


class Direction(NamedTuple):
    """Of gradients, for every update, as a sum of the adversary's own."""

    weights: Tensor  # [V, P]
    middle: Tensor  # [V]: half way along it between updates with examples of the one group and of the other
    spread: Tensor  # [V]: standard deviation of an update along it, noise included


def discriminant(
    products: Tensor, one: Tensor, other: Tensor, noise: Tensor, examples: int, with_it: int, rng: Rng
) -> Direction:
    """The direction that tells updates with examples of the group ``one`` from those with some of ``other``.

    Bool ``[P]`` each; ``products`` ``[P, P]``, float64, are those of all gradients with each other, of which the groups
    are some. An update is the mean of ``examples`` gradients, ``with_it`` of which are of a group and the rest any that
    are not of ``one``; ``noise`` ``[V]`` is the variance of what is added to each of its numbers.

    The direction is the mean of several, each made without a part of the gradients, of which updates are simulated:
    gradients that a direction was made of are farther apart along it. By these it is chosen which of several ways tells
    most (by the area under the ROC curve): how much the spread is evened out, without which directions in which few
    gradients vary by chance too little would count most, and to what length long gradients are shortened, since once a
    network has learnt, those of a few examples are a hundred times as long as most.
    """
    fold, count = _folds([one, other, ~(one | other)], rng.child("folds")), len(_RIDGES) * len(_SHORTENED)
    area, middle, variance = products.new_zeros(3, len(noise), count)
    weights = products.new_zeros(count, len(products))
    for n in range(_FOLDS):
        kept, left = fold != n, fold == n
        among = products[kept][:, kept]
        here = torch.cat([_weights(among, one[kept], other[kept], share) for share in _SHORTENED])
        along = here @ products[kept][:, left]  # [C, left]
        weights[:, kept] += here / _FOLDS
        width = (noise[:, None] * (here @ among * here).sum(1).clamp_min(0)).sqrt()[..., None]  # [V, C, 1]
        own = rng.child("part", n)
        groups = [group[left].nonzero()[:, 0] for group in (one, other, ~one)]
        ours, theirs = (
            along[:, _batches(group, groups[2], examples, with_it, own.child(k))].mean(-1)
            + width * own.child("noise", k).normal(_BATCHES).to(width)
            for k, group in enumerate(groups[:2])
        )
        area += (ours[..., :, None] > theirs[..., None, :]).double().mean((2, 3)) / _FOLDS
        middle += (ours.median(-1).values + theirs.median(-1).values) / (2 * _FOLDS)
        variance += (ours.var(-1) + theirs.var(-1)) / (2 * _FOLDS)
    best = area.argmax(1, keepdim=True)
    spread = variance.gather(1, best)[:, 0].clamp_min(_TINY).sqrt()
    return Direction(weights[best[:, 0]], middle.gather(1, best)[:, 0], spread)


def _folds(groups: Sequence[Tensor], rng: Rng) -> Tensor:
    """The number of a part for everyone, int64 ``[P]``: every group is spread evenly over the parts."""
    fold = torch.empty(len(groups[0]), dtype=torch.int64, device=groups[0].device)
    for n, group in enumerate(groups):
        at = group.nonzero()[:, 0]
        mixed = at[rng.child(n).permutation(len(at)).to(at.device)]
        fold[mixed] = torch.arange(len(at), device=at.device) % _FOLDS
    return fold


def _batches(group: Tensor, rest: Tensor, examples: int, with_it: int, rng: Rng) -> Tensor:
    """Positions ``[_BATCHES, examples]``, the first ``with_it`` of the group and the others of the rest."""
    drawn = [
        torch.cat([drawn_of(group, with_it, rng.child(n, 0)), drawn_of(rest, examples - with_it, rng.child(n, 1))])
        for n in range(_BATCHES)
    ]
    return torch.stack(drawn)


def drawn_of(group: Tensor, count: int, rng: Rng) -> Tensor:
    """So many of them, each at most once more often than another."""
    times = -(-count // len(group))
    parts = [group[rng.child(n).permutation(len(group)).to(group.device)] for n in range(times)]
    return torch.cat(parts)[:count] if parts else group[:0]


def _weights(products: Tensor, one: Tensor, other: Tensor, share: float) -> Tensor:
    """Of the gradients, for every ridge, ``[ridges, P]``: their sum is the direction, by Woodbury's identity."""
    lengths = products.diagonal().clamp_min(0).sqrt()
    shorter = (torch.quantile(lengths, share) / lengths.clamp_min(_TINY)).clamp(max=1)
    groups = torch.stack([one, ~one]).double()
    means = groups / groups.sum(1, keepdim=True)

    def about(numbers: Tensor) -> Tensor:
        """Of everyone in the first dimension, less the mean of its group."""
        return numbers - groups.T @ (means @ numbers)

    spread = about(about(shorter[:, None] * products * shorter).T) / len(products)
    differ = (one.double() / one.sum() - other.double() / other.sum()) * shorter
    along = about(shorter * (products @ differ)) / len(products)
    ridges = spread.diagonal().mean() * torch.tensor(_RIDGES, dtype=torch.float64, device=products.device)
    level = (ridges + _TINY)[:, None]
    ridged = spread.repeat(len(level), 1, 1)
    ridged.diagonal(dim1=1, dim2=2).add_(level)
    even = torch.cholesky_solve(along[:, None], torch.linalg.cholesky(ridged))[..., 0]  # [ridges, P]
    return (differ - shorter * about(even.T).T) / level
