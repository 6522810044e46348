"""Steps of training: an optimiser that moves leaves by their gradients, and whose state can be stored."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.training import Optimizer


class Stepper:
    """Moves ``leaves`` in place, as ``rule`` says. On a GPU a step may be recorded: a rate that changes lies there."""

    def __init__(self, rule: Optimizer, leaves: Sequence[Tensor]):
        self.rule, self.leaves = rule, list(leaves)
        self.optimizer = rule.make(self.leaves)

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
        for leaf, gradient in zip(self.leaves, gradients, strict=True):
            leaf.grad = gradient
        self.optimizer.step()

    def state(self) -> dict[str, Tensor]:
        """By the leaf's position and the name of what is remembered of it; copies."""
        return {
            f"{n}:{key}": value.detach().clone()
            for n, leaf in enumerate(self.leaves)
            for key, value in self.optimizer.state.get(leaf, {}).items()
            if isinstance(value, Tensor)
        }

    def remember(self, state: Tensors) -> None:
        """The way back, before the first step."""
        for label, value in state.items():
            n, _, key = label.partition(":")
            self.optimizer.state[self.leaves[int(n)]][key] = value.clone()


def steady(defense: Defense) -> bool:
    """Whether every step does the same, so that it can be recorded: batches of drawn sizes do not."""
    return not defense.acts_at() & {"sample", "example_gradients"}
