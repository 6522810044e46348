"""What one training is: replicas of a network, their examples, the loss, and how often the examples are used.

Axes: ``R`` replicas of one network, ``n`` examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from privsweep.interface import first_optimizer
from privsweep.interface.data import Domain, ImageSet, Loss, Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.rmsprop import RMSProp

# Parameters that move, of those that are not frozen (``requires_grad=False``): names of them or of layers that hold
# them, or a predicate of their names; None: all.
Trainable = Collection[str] | Callable[[str], bool] | None


Decay = Literal["constant", "cosine", "one_cycle"]
Augmentation = Literal["none", "crop_flip"]
_RISE = 0.2  # share of the steps over which the rate of one cycle rises


@dataclass(frozen=True)
class Optimizer:
    """SGD with momentum, Adam, all else being PyTorch's default, or Optax's RMSProp."""

    name: Literal["sgd", "adam", "rmsprop"]
    lr: float  # the highest, where it changes
    momentum: float  # of SGD; the others ignore it
    weight_decay: float = 0.0  # the penalty's factor, in the gradient
    decay: Decay = "constant"
    share: float = 1.0  # of the steps over which the rate changes; less where a training ends before they are over

    def make(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """PyTorch's own, fused, where it has the same; on a GPU a step of it may be recorded.

        There a rate that changes is a tensor beside the parameters.
        """
        first_optimizer.imported()
        on_gpu = parameters[0].is_cuda
        lr: float | Tensor = self.lr
        if on_gpu and self.decay != "constant":
            lr = torch.tensor(self.lr, device=parameters[0].device)
        if self.name == "rmsprop":
            return RMSProp(parameters, lr, self.weight_decay)
        if self.name == "adam":
            return torch.optim.Adam(parameters, lr=lr, weight_decay=self.weight_decay, fused=True, capturable=on_gpu)
        return torch.optim.SGD(parameters, lr=lr, momentum=self.momentum, weight_decay=self.weight_decay, fused=True)

    def rate(self, done: float) -> float:
        """The learning rate when that share of the steps is done.

        ``cosine`` falls to zero along half a cosine; ``one_cycle`` rises in a straight line over the first fifth and
        falls in a straight line to zero.
        """
        done *= self.share
        if self.decay == "cosine":
            return self.lr * (1 + math.cos(math.pi * done)) / 2
        if self.decay == "one_cycle":
            return self.lr * min(done / _RISE, (1 - done) / (1 - _RISE))
        return self.lr


@dataclass(frozen=True)
class LocalSchedule:
    """What a client does with its data between two messages."""

    optimizer: Optimizer
    epochs: int
    steps: int | None  # at most so many steps, counted over epochs; None: whole epochs
    batch_size: int

    def length(self, examples: int) -> int:
        """Optimiser steps on that many examples."""
        whole = self.epochs * -(-examples // self.batch_size)
        return whole if self.steps is None else self.steps

    def sizes(self, examples: int) -> list[int]:
        """How large its batches are on that many examples, each size once."""
        steps, epoch = self.length(examples), -(-examples // self.batch_size)
        last = [examples - (epoch - 1) * self.batch_size] if steps >= epoch else []
        return list(dict.fromkeys([min(self.batch_size, examples), *last])) if steps else []

    def batches(self, examples: int, rng: Rng, device: torch.device | str = "cpu") -> Iterator[Tensor]:
        """Positions, batch after batch; every epoch in a new order; the last batch may be smaller.

        An epoch's lie on the device before its first step, so that none waits for a copy.
        """
        left = self.length(examples)
        epoch = 0
        while left > 0:
            order = rng.child("epoch", epoch).permutation(examples).to(device)
            for batch in order.split(self.batch_size)[:left]:
                yield batch
                left -= 1
            epoch += 1


@dataclass(frozen=True)
class Examples:
    """Where the batches of all replicas are read from, and which positions there are whose."""

    read: Callable[[Tensor], tuple[Tensor, Tensor]]  # int64 [n] -> what a network is fed [n, ...], targets [n, ...]
    index: Sequence[Tensor]  # of every replica, the positions of its examples, int64; at least one
    augment: Callable[[Tensor, Rng], Tensor] | None = None  # inputs [n, ...], changed at random for one step
    waits: bool = False  # whether the host waits in ``read``, which is then no part of what a GPU records


def labelled(
    pool: ImageSet, domain: Domain, index: Sequence[Tensor], augment: Callable[[Tensor, Rng], Tensor] | None = None
) -> Examples:
    """Inputs and labels of a classifier: every replica has the examples of ``pool`` at its positions."""
    device = pool.labels.device
    own = [rows.to(device) for rows in index]
    return Examples(lambda rows: (domain.inputs_of(pool, rows), pool.labels.index_select(0, rows)), own, augment)


@dataclass(frozen=True)
class Training:
    """One training of R replicas, each from its own weights, on its own examples, with its own random stream."""

    net: nn.Module  # scratch: its weights are overwritten
    start: Tensors  # [R, ...]: parameters and buffers by name, none of which shares memory with those of ``net``
    trainable: Trainable
    loss: Loss  # (outputs, targets) -> mean over examples
    data: Examples
    schedule: LocalSchedule
    rngs: Sequence[Rng]


def alike(weights: Tensors, replicas: int) -> Tensors:
    """``[R, ...]``: all replicas the same; the memory is shared."""
    return {name: w.detach().expand(replicas, *w.shape) for name, w in weights.items()}


def replica(weights: Tensors, k: int) -> dict[str, Tensor]:
    """One of those on the leading axis."""
    return {name: w[k] for name, w in weights.items()}


def some(training: Training, part: slice, net: nn.Module | None = None) -> Training:
    """Some of its replicas alone, on ``net`` in place of its own."""
    return replace(
        training,
        net=training.net if net is None else net,
        start={name: w[part] for name, w in training.start.items()},
        data=replace(training.data, index=training.data.index[part]),
        rngs=training.rngs[part],
    )
