"""Which way two groups of gradients differ beyond their spread: Fisher's discriminant, by products of gradients alone.

Axes: ``P`` gradients of the adversary's own examples, ``V`` updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from privsweep.interface.randomness import Rng

_RIDGES = tuple(10.0**power for power in range(-5, 3))  # of the mean variance along a direction
_FOLDS = 4
LEAST = 40  # gradients, for every part to hold some of both groups
_TINY = 1e-30


class Direction(NamedTuple):
    """Of gradients, for every update, as a sum of the adversary's own."""

    weights: Tensor  # [V, P]
    level: Tensor  # [V]: the mean along it of all that are not of the first group
    middle: Tensor  # [V]: half way between the two groups, from there
    spread: Tensor  # [V]: standard deviation of one gradient along it, noise included


def discriminant(products: Tensor, one: Tensor, other: Tensor, noise: Tensor, rng: Rng) -> Direction:
    """The direction that tells gradients of the group ``one`` from those of ``other``, bool ``[P]`` each.

    ``products`` ``[P, P]``, float64, are those of all gradients with each other, of which the groups are some: the
    spread is that of ``one`` and that of all others, whose labels vary from batch to batch. ``noise`` ``[V]`` is the
    variance of what is added to every number of a gradient, by update.

    The mean of several directions, each made without a part of the gradients, along which these are measured: along
    gradients that it was made of, groups are farther apart. So it is chosen, too, how much the spread is evened out,
    without which directions in which few gradients vary by chance too little would count most.
    """
    fold, shape = _folds([one, other, ~(one | other)], rng), (len(noise), len(_RIDGES))
    level, apart, variance, middle = products.new_zeros(4, *shape)
    weights = products.new_zeros(*shape, len(products))
    for n in range(_FOLDS):
        kept, left = fold != n, fold == n
        here = _weights(products[kept][:, kept], one[kept], other[kept], noise)
        along = here @ products[kept][:, left]  # [V, ridges, left]
        ours, theirs, rest = (along[..., group[left]] for group in (one, other, ~one))
        weights[..., kept] += here / _FOLDS
        level += rest.mean(-1) / _FOLDS
        apart += (ours.mean(-1) - theirs.mean(-1)) / _FOLDS
        middle += ((ours.mean(-1) + theirs.mean(-1)) / 2 - rest.mean(-1)) / _FOLDS
        length = (here @ products[kept][:, kept] * here).sum(-1)
        variance += ((ours.var(-1) + rest.var(-1)) / 2 + noise[:, None] * length) / _FOLDS
    spread = variance.clamp_min(_TINY).sqrt()
    best = (apart / spread).nan_to_num(-1.0).argmax(1, keepdim=True)
    chosen = weights.gather(1, best[..., None].expand(-1, 1, len(products)))[:, 0]
    return Direction(chosen, *(t.gather(1, best)[:, 0] for t in (level, middle, spread)))


def _folds(groups: Sequence[Tensor], rng: Rng) -> Tensor:
    """The number of a part for everyone, int64 ``[P]``: every group is spread evenly over the parts."""
    fold = torch.empty(len(groups[0]), dtype=torch.int64, device=groups[0].device)
    for n, group in enumerate(groups):
        at = group.nonzero()[:, 0]
        mixed = at[rng.child(n).permutation(len(at)).to(at.device)]
        fold[mixed] = torch.arange(len(at), device=at.device) % _FOLDS
    return fold


def _weights(products: Tensor, one: Tensor, other: Tensor, noise: Tensor) -> Tensor:
    """Of the gradients, by update and ridge, ``[V, ridges, P]``: their sum is the direction, by Woodbury's identity."""
    groups = torch.stack([one, ~one]).double()
    means = (groups / groups.sum(1, keepdim=True)).T @ groups  # its transpose makes of everyone its group's mean
    about = torch.eye(len(products), dtype=torch.float64, device=products.device) - means.T
    values, vectors = torch.linalg.eigh(about @ products @ about.T / len(products))
    differ = one.double() / one.sum() - other.double() / other.sum()
    along = vectors.T @ (about @ (products @ differ)) / len(products)
    evened = values.mean() * torch.tensor(_RIDGES, dtype=torch.float64, device=products.device)
    level = (evened + noise[:, None])[..., None] + _TINY
    return (differ - (along / (values.clamp_min(0) + level)) @ vectors.T @ about) / level
