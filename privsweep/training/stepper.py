"""Steps of training: an optimiser that moves leaves by their gradients, and whose state can be stored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.training import Optimizer
from privsweep.training.lean import Move, lean


class Stepper:
    """Moves ``leaves`` in place, as ``rule`` says: of one network, or ``[R, ...]`` of ``replicas``.

    On a GPU a step may be recorded: a rate that changes lies there.
    """

    def __init__(self, rule: Optimizer, leaves: Sequence[Tensor], replicas: int | None = None):
        self.rule, self.leaves, self.replicas = rule, list(leaves), replicas
        self.optimizer = rule.make(self.leaves)
        self._move: Move = self._first

    def at(self, done: float) -> None:
        """The rate becomes what it is when that share of all steps is done."""
        if self.rule.decay == "constant":
            return
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(self.rule.rate(done))
            else:
                group["lr"] = self.rule.rate(done)

    def step(self, gradients: Sequence[Tensor]) -> None:
        self._move(gradients)

    def _first(self, gradients: Sequence[Tensor]) -> None:
        """After it the optimiser remembers something."""
        self._by_optimizer(gradients)
        self._move = lean(self.optimizer) or self._by_optimizer

    def _by_optimizer(self, gradients: Sequence[Tensor]) -> None:
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            leaf.grad = gradient
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """``[R, ...]`` (``[1, ...]`` of one network) by the leaf's position and what is remembered of it; copies."""
        count = self.replicas or 1
        return {
            f"{n}:{key}": (value if self._own(value, leaf) else value.expand(count, *value.shape)).detach().clone()
            for n, leaf in enumerate(self.leaves)
            for key, value in self.optimizer.state.get(leaf, {}).items()
            if isinstance(value, Tensor)
        }

    def remember(self, state: Tensors) -> None:
        """The way back, before the first step."""
        self._move = self._first
        for label, value in state.items():
            n, _, key = label.partition(":")
            leaf = self.leaves[int(n)]
            own = value if self._own(value, leaf) else value[0]
            # Laid out as the leaf is, which a fused optimiser takes for granted.
            like = leaf if own.shape == leaf.shape else own
            self.optimizer.state[leaf][key] = torch.empty_like(like).copy_(own)

    def forget(self) -> None:
        """As before the first step, in the memory that a recorded step knows."""
        for remembered in self.optimizer.state.values():
            for value in remembered.values():
                if isinstance(value, Tensor):
                    value.zero_()

    def _own(self, value: Tensor, leaf: Tensor) -> bool:
        """Whether every replica has its own on the leading axis; a count of steps is one for all."""
        return self.replicas is not None and value.shape == leaf.shape


def steady(defense: Defense) -> bool:
    """Whether every step does the same, so that it can be recorded: batches of drawn sizes do not."""
    return not defense.acts_at() & {"sample", "example_gradients", "batch_gradient"}
