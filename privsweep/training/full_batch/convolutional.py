"""Sequences of convolutions and dense layers: many small models, each layer at once.

Axes: ``K`` models, ``n`` records, ``T`` places of a convolution's output, ``F`` numbers that are multiplied at a place,
``O`` outputs. Images are ``[K, n, C, H, W]``, or ``[1, n, C, H, W]`` where all models see the same. A model's own
record goes in apart from the fixed ones, which all models share.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privsweep.differential_privacy.clipping import clip_factors
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.sequence import is_sequence
from privsweep.training.clipped_sum import layers_with_parameters
from privsweep.training.full_batch.descent import Task
from privsweep.training.stacked import mixes_examples, numbers_of


def fits(net: nn.Module, defense: Defense) -> bool:
    """Whether every layer acts on each example by itself, and parameters are those of plain layers with biases."""
    if not is_sequence(net) or mixes_examples(net) or defense.example_bound() is None:
        return False
    own = layers_with_parameters(net)
    if own is None or any(True for _ in net.buffers()) or any(layer.bias is None for layer in own.values()):
        return False
    dense = all(isinstance(layer, nn.Linear) or set(layer.dilation) == {1} for layer in own.values())
    return dense and set(own) <= {name for name, _ in net.named_children()}


class Convolutional(ABC):
    """The models of a task whose network ``fits``; ``held`` numbers are worked on at once, of ``models`` models."""

    def __init__(self, task: Task, held: int, models: int):
        self.task = task
        self.names = [name for name, _ in task.net.named_parameters()]
        self.leaves = [task.start[name].contiguous().clone() for name in self.names]
        bound = task.defense.example_bound()
        assert bound is not None
        self.bound = bound
        self.models = min(models, len(task.own_x))
        self.size = max(1, held // (sum(numbers_of(task.net, task.x[:1])) * self.models))  # records at once

    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        parts = [self._of(slice(k, k + self.models)) for k in range(0, len(self.task.own_x), self.models)]
        return [torch.cat(leaf) for leaf in zip(*parts, strict=True)]

    def _of(self, models: slice) -> list[Tensor]:
        task, weights = self.task, {n: leaf[models] for n, leaf in zip(self.names, self.leaves, strict=True)}
        total = self.sum(weights, task.own_x[models, None], task.own_y[models, None], task.present[models])
        for first in range(0, len(task.x), self.size):
            x, y = (t[None, first : first + self.size] for t in (task.x, task.y))
            more = self.sum(weights, x, y.expand(len(task.own_y[models]), -1), None)
            total = {name: so_far + more[name] for name, so_far in total.items()}
        divisors = task.divisors[models].to(task.x)
        return [total[name] / divisors.view(-1, *[1] * (leaf.dim() - 1)) for name, leaf in weights.items()]

    @abstractmethod
    def sum(self, weights: Tensors, x: Tensor, y: Tensor, present: Tensor | None) -> dict[str, Tensor]:
        """Of the records' gradients, by leaf ``[K, ...]``; ``y`` is ``[K, n]``, ``present`` ``[K]`` or all."""

    def loss(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The sum over all models and records."""
        return self.task.loss(outputs.flatten(0, 1), y.flatten(0, 1)) * y.numel()

    def factors(self, squares: Tensor | None, present: Tensor | None) -> Tensor | None:
        """What every gradient is multiplied with, ``[K, n]``, given its squared length where one is clipped."""
        factor = None if present is None else present.to(self.leaves[0])[:, None]
        if squares is not None:
            clip = clip_factors(squares.sqrt(), self.bound)
            factor = clip if factor is None else clip * factor
        return factor

    @property
    def clips(self) -> bool:
        return self.bound < math.inf

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.names, leaves, strict=True))

    def packed(self, parameters: Tensors) -> list[Tensor]:
        return [parameters[name] for name in self.names]

    def buffers(self) -> Tensors:
        return {}


def dense_outputs(weights: Tensors, name: str, x: Tensor) -> Tensor:
    """Of a dense layer, ``[K, n, O]``, from ``[K, n, F]`` or ``[1, n, F]``."""
    weight = weights[f"{name}.weight"]
    return torch.baddbmm(weights[f"{name}.bias"][:, None], x.expand(len(weight), -1, -1), weight.mT)


def squares_of(a: Tensor, d: Tensor) -> Tensor:
    """The squared length ``[K, n]`` of every example's gradient of a layer.

    ``a`` ``[K, n, T, F]`` went in, ``d`` ``[K, n, T, O]`` are the loss's derivatives by what came out.
    """
    places, fed, out = a.shape[2], a.shape[3], d.shape[3]
    bias = d.sum(2).square().sum(2)
    if places == 1:
        return a.square().sum((2, 3)) * d.square().sum((2, 3)) + bias
    if fed * out < places**2:
        return torch.matmul(d.mT, a).square().sum((2, 3)) + bias
    return (torch.matmul(a, a.mT) * torch.matmul(d, d.mT)).sum((2, 3)) + bias
