"""The optimisers of local training, alone and for stacked replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.data import Tensors

BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True)
class Optimizer:
    """SGD with momentum, or Adam with PyTorch's betas."""

    name: Literal["sgd", "adam"]
    lr: float
    momentum: float  # of SGD; Adam ignores it

    def make(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """PyTorch's own, fused."""
        if self.name == "adam":
            return torch.optim.Adam(parameters, lr=self.lr, betas=BETAS, eps=EPSILON, fused=True)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=self.momentum, fused=True)

    def stacked(self, weights: Tensors) -> StackedOptimizer:
        """The same for replicas on a leading axis, some of which may pause."""
        return StackedOptimizer(self, weights)


class StackedOptimizer:
    """Equal to ``Optimizer.make`` on every replica apart, to rounding."""

    def __init__(self, rule: Optimizer, weights: Tensors):
        self.rule = rule
        first = next(iter(weights.values()))
        self.steps = torch.zeros(len(first), device=first.device, dtype=first.dtype)
        self.mean = {k: torch.zeros_like(w) for k, w in weights.items()}
        self.square = {k: torch.zeros_like(w) for k, w in weights.items()} if rule.name == "adam" else {}

    def step(self, weights: dict[str, Tensor], grads: Tensors, active: Tensor) -> None:
        """Moves, in place, the replicas for which ``active`` ``[K]`` is true."""
        self.steps += active
        for name, w in weights.items():
            on = active.view(-1, *[1] * (w.dim() - 1))
            move = self._adam(name, grads[name], on) if self.rule.name == "adam" else self._sgd(name, grads[name], on)
            w.sub_(torch.where(on, self.rule.lr * move, 0.0))

    def _sgd(self, name: str, g: Tensor, on: Tensor) -> Tensor:
        mean = self.mean[name]
        mean.copy_(torch.where(on, self.rule.momentum * mean + g, mean))
        return mean

    def _adam(self, name: str, g: Tensor, on: Tensor) -> Tensor:
        mean, square = self.mean[name], self.square[name]
        mean.copy_(torch.where(on, mean.lerp(g, 1 - BETAS[0]), mean))
        square.copy_(torch.where(on, square * BETAS[1] + (1 - BETAS[1]) * g * g, square))
        t = self.steps.clamp_min(1).view(-1, *[1] * (g.dim() - 1))
        return (mean / (1 - BETAS[0] ** t)) / ((square / (1 - BETAS[1] ** t)).sqrt() + EPSILON)
