"""Whatever is no dense network: one model after the other, on the network itself, with every point of a defence."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.stochastic import draw, forward
from privsweep.training.clipped_sum import clipped_sum, layers_with_parameters, numbers_held
from privsweep.training.frozen import unfrozen
from privsweep.training.full_batch.descent import Task
from privsweep.training.per_example import defended_sum
from privsweep.training.stacked import mixes_examples, numbers_of

# Numbers that one pass holds: on a CPU few records at a time stay in its caches.
_HELD = {"cpu": 2**22, "cuda": 2**30}


class OneByOne:
    """The models of a task, of any network."""

    def __init__(self, task: Task):
        self.task, self.net = task, task.net
        self.names = unfrozen(self.net)
        self.moved = [self.net.get_parameter(name) for name in self.names]
        self.state = {name: w.contiguous().clone() for name, w in task.start.items()}
        self.leaves = [self.state[name] for name in self.names]
        self.x, self.y = (torch.cat((t, torch.zeros_like(t[:1]))) for t in (task.x, task.y))  # the last place is own
        self.counts, self.divisors = task.counts.tolist(), task.divisors.tolist()
        self.size = len(self.x)  # records at once; all where they are normalised together
        bound = task.defense.example_bound()
        self.bound = math.inf if bound is None else bound
        self.clipped = None if self.bound == math.inf else layers_with_parameters(self.net)
        self.formed = self.clipped is None and bound != math.inf  # one gradient an example
        if not mixes_examples(self.net):
            numbers = sum(numbers_of(self.net, task.x[:1]))
            if self.clipped is not None:
                numbers += numbers_held(self.clipped, self.net, task.x[:1])
            self.size = max(1, _HELD[task.x.device.type] // numbers)

    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        each = [self._gradient(k, rng) for k, rng in enumerate(rngs)]
        return [torch.stack([grads[name] for grads in each]) for name in self.names]

    def _gradient(self, k: int, rng: Rng) -> dict[str, Tensor]:
        """Of model ``k``, whose buffers move on."""
        task = self.task
        self.net.load_state_dict({name: w[k] for name, w in self.state.items()})
        self.x[-1], self.y[-1] = task.own_x[k], task.own_y[k]
        x, y = self.x[: self.counts[k]], self.y[: self.counts[k]]
        noise = draw(self.net, len(x), rng.child("noise"), x.device)
        if self.formed:
            total, _ = defended_sum(self.net, task.loss, x, y, noise, task.defense, rng)
        else:
            total = self._sum(x, y, noise)
        for name, buffer in self.net.named_buffers():
            if name in self.state:
                self.state[name][k] = buffer
        return {name: g / self.divisors[k] for name, g in total.items()}

    def _sum(self, x: Tensor, y: Tensor, noise: Tensors) -> dict[str, Tensor]:
        """Of the records' gradients, some at a time."""
        total = {name: torch.zeros_like(p) for name, p in zip(self.names, self.moved, strict=True)}
        for first in range(0, len(x), self.size):
            part = slice(first, first + self.size)
            for name, g in self._part(x[part], y[part], {name: z[part] for name, z in noise.items()}).items():
                total[name] += g
        return total

    def _part(self, x: Tensor, y: Tensor, noise: Tensors) -> dict[str, Tensor]:
        if self.clipped is not None:
            return clipped_sum(self.clipped, self.net, self.task.loss, x, y, noise, self.bound)[0]
        value = self.task.loss(forward(self.net, noise, x), y) * len(x)
        return dict(zip(self.names, torch.autograd.grad(value, self.moved), strict=True))

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.names, leaves, strict=True))

    def packed(self, parameters: Tensors) -> list[Tensor]:
        return [parameters[name] for name in self.names]

    def buffers(self) -> Tensors:
        return {name: w for name, w in self.state.items() if name not in self.names}
