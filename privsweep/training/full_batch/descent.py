"""Full-batch gradient descent of many models that differ in one record: one epoch is one step.

Axes: ``K`` models, ``n`` fixed records.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Optimizer
from privsweep.training.stepper import Stepper


@dataclass(frozen=True)
class Task:
    """What ``K`` models are trained on, and from where."""

    net: nn.Module  # scratch, on the device and as it trains: its weights are overwritten
    loss: Loss
    defense: Defense  # bound; acts at ``example_gradients`` and ``gradient``
    x: Tensor  # [n, ...] what a network is fed of the fixed records
    y: Tensor  # [n, ...]
    own_x: Tensor  # [K, ...] of the models' own records
    own_y: Tensor  # [K, ...]
    present: Tensor  # bool [K]: whether a model's own record takes part
    start: Tensors  # [K, ...]: parameters and buffers by name

    @property
    def counts(self) -> Tensor:
        """How many records every model is trained on, int64 ``[K]``."""
        return len(self.x) + self.present.long()

    @property
    def divisors(self) -> Tensor:
        """What sums of gradients, and the noise on them, are divided by, int64 ``[K]``: the models' ``counts``.

        One for all where a defence changes what an example adds to a sum. Neighbours differ in an example that is
        blanked then, and if the divisor did too, the noise's scale alone would tell whether it is there.
        """
        if self.defense.example_bound() != math.inf:
            return torch.full_like(self.counts, len(self.x) + 1)
        return self.counts


class Models(Protocol):
    """The models of a task in training. Their leaves need not be laid out as the network's parameters are."""

    @property
    def leaves(self) -> list[Tensor]:
        """What the optimiser moves in place, ``[K, ...]`` each."""
        ...

    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        """Of every leaf, the sum over a model's records, each as ``example_gradients`` lets it pass, by its divisor.

        ``rngs`` are the models' streams for this step.
        """
        ...

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        """Leaves, or their gradients, as the network's parameters ``[K, ...]`` that are not frozen."""
        ...

    def packed(self, parameters: Tensors) -> list[Tensor]:
        """The way back."""
        ...

    def buffers(self) -> Tensors:
        """What of the weights is no parameter that moves, ``[K, ...]``."""
        ...


def descend(
    models: Models,
    task: Task,
    rule: Optimizer,
    epochs: int,
    rngs: Sequence[Rng],
    watch: Callable[[int, int], None] = lambda done, total: None,
    after: Callable[[int, Tensors], None] | None = None,
    stops: Sequence[int] | None = None,
) -> dict[int, dict[str, Tensor]]:
    """The weights ``[K, ...]`` after each of ``stops``, of so many steps in all (None: the last alone).

    Nothing is computed beyond the last stop. The defence acts with the stream ``rngs[k].child("step", t)``.
    """
    kept: dict[int, dict[str, Tensor]] = {}
    stops = [epochs] if stops is None else stops
    stepper = Stepper(rule, models.leaves)
    divisors = task.divisors.tolist()

    def weights() -> dict[str, Tensor]:
        now = {**models.named(stepper.leaves), **models.buffers()}
        return {name: now[name].detach().clone() for name in task.start}

    for step in range(max(stops)):
        own = [rng.child("step", step) for rng in rngs]
        grads = models.gradients(own)
        if "gradient" in task.defense.acts_at():
            grads = models.packed(_defended(models.named(grads), task.defense, divisors, own))
        stepper.at(step / epochs)
        stepper.step(grads)
        watch(step + 1, max(stops))
        if after is not None:
            after(step + 1, weights())
        if step + 1 in stops:
            kept[step + 1] = weights()
    return kept


def _defended(grads: Tensors, defense: Defense, divisors: Sequence[int], rngs: Sequence[Rng]) -> dict[str, Tensor]:
    """Every model's gradient as the defence lets it pass."""
    apart = [
        defense.gradient({name: g[k] for name, g in grads.items()}, divisor, rng)
        for k, (divisor, rng) in enumerate(zip(divisors, rngs, strict=True))
    ]
    return {name: torch.stack([one[name] for one in apart]) for name in grads}
