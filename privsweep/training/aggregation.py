"""From the clients' messages to their mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import torch
from torch import Tensor, nn

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.training.frozen import unfrozen


def participants(clients: int, fraction: float) -> int:
    """How many of the clients take part in a round; at least one."""
    return max(1, round(fraction * clients))


def survivors(clients: int, defense: Defense, rng: Rng) -> list[int]:
    """Which of a round's ``clients`` the server hears of; ``rng`` is the round's stream."""
    return defense.surviving_clients(clients, rng.child("server view", 0))


def server_mean(
    updates: Sequence[Tensors], sizes: Sequence[int], defense: Defense, rng: Rng, present: int | None = None
) -> tuple[dict[str, Tensor], list[int]]:
    """What the server makes of a round: the mean update, weighted by examples, and the clients behind it.

    Only where the defence sees to it do clients weigh alike, are messages masked, or get lost on their way.
    ``present`` is a client of whom it is known that it gets through.
    """
    rounds = (rng.child("server view", n) for n in count())
    own = next(r for r in rounds if present is None or present in defense.surviving_clients(len(updates), r))
    weights = [1] * len(updates) if defense.uniform else list(sizes)
    total = sum(weights)
    weighted = [{name: t * (w / total) for name, t in s.items()} for s, w in zip(updates, weights, strict=True)]
    surviving = defense.surviving_clients(len(updates), own)
    summed = defense.combine(defense.server_view(weighted, own))
    left = sum(weights[n] for n in surviving) / total
    return {name: (summed[name] / left).to(t.dtype) for name, t in updates[0].items()}, surviving


def averaged(
    net: nn.Module,
    before: Tensors,
    after: Sequence[Tensors],
    sizes: Sequence[int],
    defense: Defense,
    rngs: Sequence[Rng],
    rng: Rng,
) -> dict[str, Tensor]:
    """The weights that a round ends with: ``before`` and the mean of what the clients send of their change.

    Parameters of ``net`` that are frozen are not sent, and stay; of all else that is no parameter, running statistics,
    the plain weighted mean is taken. ``rngs`` are the clients' streams, ``rng`` the round's.
    """
    names = unfrozen(net)
    frozen = {name: before[name] for name, p in net.named_parameters() if not p.requires_grad}
    if not names:
        return {**weighted_mean(after, sizes), **frozen}
    updates = [
        defense.update({name: own[name] - before[name] for name in names}, own_rng.child("update"))
        for own, own_rng in zip(after, rngs, strict=True)
    ]
    mean, surviving = server_mean(updates, sizes, defense, rng)
    change = defense.aggregate(mean, len(surviving), rng.child("aggregate"))
    means = weighted_mean([after[n] for n in surviving], [sizes[n] for n in surviving])
    return {**means, **frozen, **{name: before[name] + d for name, d in change.items()}}


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
