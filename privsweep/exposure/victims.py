"""Whose images are attacked: which of a client's examples stand behind the captured updates."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.randomness import Rng

VictimChoice = Literal["random", "every_class"]


def draw_victims(shard: Tensor, labels: Tensor, count: int, batch: int, choice: VictimChoice, rng: Rng) -> Tensor:
    """Positions ``[count, batch]`` in the training split, drawn without replacement from a client's ``shard``.

    ``labels``: int64, of the shard's examples. ``random`` is plain; ``every_class`` deals the classes in turn,
    in a random order anew in every turn, so that each one is there as soon as there are as many images as
    classes (PRECODE, section 4: 128 images with every class). A class that is used up is passed over.
    The first images stay when more are asked for, and whatever the batch.
    """
    order = rng.permutation(len(shard))
    if choice == "every_class":
        order = order[_turns(labels[order]).argsort(stable=True)]
    return shard[order[: count * batch]].view(count, batch)


def _turns(labels: Tensor) -> Tensor:
    """How often the label of every position has stood there before it, int64 ``[n]``."""
    by_label = labels.argsort(stable=True)
    _, sizes = labels[by_label].unique_consecutive(return_counts=True)
    starts = sizes.cumsum(0) - sizes
    turns = torch.empty_like(by_label)
    turns[by_label] = torch.arange(len(labels)) - starts.repeat_interleave(sizes)
    return turns
