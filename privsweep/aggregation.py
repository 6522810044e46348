"""From the clients' messages to their mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor

from privsweep.game import Tensors
from privsweep.protection import Defense
from privsweep.randomness import Rng


def participants(clients: int, share: float) -> int:
    """How many of the clients take part in a round; at least one."""
    return max(1, round(share * clients))


def server_mean(
    shares: Sequence[Tensors], sizes: Sequence[int], defense: Defense, rng: Rng, present: int | None = None
) -> tuple[dict[str, Tensor], list[int]]:
    """What the server makes of a round: the mean share, weighted by examples, and the clients behind it.

    Only where the defence sees to it do clients weigh alike, are messages masked, or get lost on their way.
    ``present`` is a client of whom it is known that it gets through.
    """
    rounds = (rng.child("server view", n) for n in count())
    own = next(r for r in rounds if present is None or present in defense.survivors(len(shares), r))
    weights = [1] * len(shares) if defense.uniform else list(sizes)
    total = sum(weights)
    weighted = [{name: t * (w / total) for name, t in s.items()} for s, w in zip(shares, weights, strict=True)]
    heard = defense.survivors(len(shares), own)
    summed = defense.combine(defense.server_view(weighted, own))
    left = sum(weights[n] for n in heard) / total
    return {name: (summed[name] / left).to(t.dtype) for name, t in shares[0].items()}, heard


def averaged(
    names: Sequence[str],
    before: Tensors,
    after: Sequence[Tensors],
    sizes: Sequence[int],
    defense: Defense,
    rngs: Sequence[Rng],
    rng: Rng,
) -> dict[str, Tensor]:
    """The weights that a round ends with: ``before`` and the mean of what the clients send of their change.

    ``names`` are those of the parameters; of all else, running statistics, the plain weighted mean is taken.
    ``rngs`` are the clients' streams, ``rng`` the round's.
    """
    shares = [
        defense.update({name: own[name] - before[name] for name in names}, own_rng.child("update"))
        for own, own_rng in zip(after, rngs, strict=True)
    ]
    mean, heard = server_mean(shares, sizes, defense, rng)
    change = defense.aggregate(mean, len(heard), rng.child("aggregate"))
    means = weighted_mean([after[n] for n in heard], [sizes[n] for n in heard])
    return {**means, **{name: before[name] + d for name, d in change.items()}}


def weighted_mean(items: Sequence[Tensors], weights: Sequence[int]) -> dict[str, Tensor]:
    """The mean weighted by numbers of examples; integer buffers are the first item's."""
    total = sum(weights)
    mean = {}
    for name, first in items[0].items():
        if first.is_floating_point():
            mean[name] = sum(
                (t[name] * (w / total) for t, w in zip(items, weights, strict=True)), torch.zeros_like(first)
            )
        else:
            mean[name] = first.clone()
    return mean
