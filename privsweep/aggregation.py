"""From the clients' messages to their mean."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

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
