"""Several replicas in training at once, each by itself: on a GPU they are branches of one recorded step.

The kernels of a small network fill a small part of a GPU; those of different branches run beside each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.replayed import Replayed
from privsweep.interface.training import Training, some
from privsweep.training.alone import Alone


class Abreast:
    """The replicas of ``training``, of any sizes, each with its ``steady`` defence; to the last bit as by itself."""

    def __init__(self, training: Training, defenses: Sequence[Defense]):
        parts = [some(training, slice(k, k + 1), deepcopy(training.net)) for k in range(len(training.rngs))]
        self.each = [Alone(part, defense) for part, defense in zip(parts, defenses, strict=True)]
        self.device = training.data.index[0].device
        self.streams = [torch.cuda.Stream(self.device) for _ in parts] if self.device.type == "cuda" else []
        self.replayed = Replayed(self._step, self.device)
        self.training: tuple[int, ...] = ()  # those that are not done

    def again(self, training: Training) -> None:
        for k, one in enumerate(self.each):
            one.again(some(training, slice(k, k + 1), one.net))

    def at(self, done: Sequence[float]) -> None:
        for one, own in zip(self.each, done, strict=True):
            one.at([own])

    def step(self, batches: Sequence[tuple[Tensor, int] | None], rngs: Sequence[Rng]) -> Tensor:
        self.training = tuple(k for k, batch in enumerate(batches) if batch is not None)
        given = [t for one, batch in zip(self.each, batches, strict=True) if batch for t in one.given(batch[0])]
        return self.replayed(*given, rngs=rngs, kind=self.training)[0]

    def _step(self, *given: Tensor, rngs: Sequence[Rng]) -> tuple[Tensor, ...]:
        losses = [torch.zeros(1, device=self.device)] * len(self.each)
        each = len(given) // len(self.training)
        for n, k in enumerate(self.training):
            with self._branch(k):
                [losses[k]] = self.each[k].move(*given[n * each : (n + 1) * each], rngs=[rngs[k]])
        for stream in self.streams:
            torch.cuda.current_stream(self.device).wait_stream(stream)
        return (torch.cat(losses),)

    def _branch(self, k: int) -> ExitStack:
        stack = ExitStack()
        if self.streams:
            self.streams[k].wait_stream(torch.cuda.current_stream(self.device))
            stack.enter_context(torch.cuda.stream(self.streams[k]))
        return stack

    def weights(self) -> Tensors:
        return _joined([one.weights() for one in self.each])

    def state(self) -> Tensors:
        return _joined([one.state() for one in self.each])

    def remember(self, state: Tensors) -> None:
        for k, one in enumerate(self.each):
            one.remember({name: t[k : k + 1] for name, t in state.items()})


def _joined(each: Sequence[Tensors]) -> dict[str, Tensor]:
    return {name: torch.cat([own[name] for own in each]) for name in each[0]}
