"""Whose images are attacked: which of a client's examples are behind the captured updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng

VictimChoice = Literal["random", "every_class"]


@dataclass(frozen=True)
class Victims:
    """How many victims there are, and how their images are chosen."""

    count: int
    choice: VictimChoice
    seed: int | None  # in place of the run's

    def check(self, client: int, shards: Sequence[Tensor], batch: int) -> None:
        """Raises UserError where there is no such client, or it holds too few examples."""
        if client >= len(shards):
            raise UserError(f"fl_setting.capture.client={client}: clients are numbered 0 to {len(shards) - 1}")
        needed, held = self.count * batch, len(shards[client])
        if needed > held:
            raise UserError(
                f"fl_setting.victims={self.count}: with fl_setting.capture.batch_size={batch} they need {needed} "
                f"examples, and client {client} holds {held}; take fewer victims, or fewer clients"
            )

    def check_choice(self, labels: Tensor) -> None:
        """Raises UserError where it goes by class and ``labels`` of examples are none, but words."""
        if self.choice == "every_class" and labels.dim() > 1:
            raise UserError(
                "fl_setting.victim_choice=every_class: goes by the class of an example, and the dataset has none; take "
                "random"
            )

    def draw(self, client: int, shard: Tensor, labels: Tensor, batch: int, rng: Rng) -> Tensor:
        """Positions ``[count, batch]`` in the training split, drawn without replacement from a client's ``shard``.

        ``labels``: int64, of the whole training split. ``random`` is plain; ``every_class`` deals the classes in
        turn, in a random order anew in every turn, so that each one is there as soon as there are as many images as
        classes (PRECODE, section 4: 128 images with every class). A class that is used up is passed over.
        The first images stay when more are asked for, and whatever the batch.
        """
        own = rng if self.seed is None else Rng(self.seed)
        order = own.child("victims", client).permutation(len(shard))
        if self.choice == "every_class":
            order = order[_turns(labels[shard][order]).argsort(stable=True)]
        return shard[order[: self.count * batch]].view(self.count, batch)


def others(index: Tensor, examples: int, rng: Rng) -> Tensor | None:
    """For every victim as many positions that are not its own, ``[V, N]`` like ``index``; None where there are too few.

    No position comes twice in a victim.
    """
    count = index.shape[1]
    if examples < 2 * count:
        return None
    order, found = rng.permutation(examples), []
    for victim, own in enumerate(index.cpu()):
        turned = order.roll(-victim * count)[: 2 * count]
        found.append(turned[~torch.isin(turned, own)][:count])
    return torch.stack(found)


def _turns(labels: Tensor) -> Tensor:
    """How often the label of every position has stood there before it, int64 ``[n]``."""
    by_label = labels.argsort(stable=True)
    _, sizes = labels[by_label].unique_consecutive(return_counts=True)
    starts = sizes.cumsum(0) - sizes
    turns = torch.empty_like(by_label)
    turns[by_label] = torch.arange(len(labels)) - starts.repeat_interleave(sizes)
    return turns


def choose_participants(clients: int, victim: int, position: str, count: int) -> list[int]:
    """The clients that ``count`` updates are of, the victim first; last the one that listens, if one does.

    ``count`` is from 1 to ``clients``; where one listens there are two at least. Raises UserError for a ``victim``
    that is none of the clients, and where nobody is left to listen.
    """
    if victim >= clients:
        raise UserError(f"fl_setting.capture.client={victim}: clients are numbered 0 to {clients - 1}")
    if position == "server":
        return [victim, *(c for c in range(clients) if c != victim)][:count]
    if clients < 2:
        raise UserError("fl_setting.position=client: a lone client sees only itself; take fl_setting.clients=2 or more")
    listener = (victim + 1) % clients
    others = [c for c in range(clients) if c not in (victim, listener)]
    return [victim, *others[: max(count, 2) - 2], listener]
