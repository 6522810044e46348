"""Whatever is no dense network: one model after the other, on the network itself, with every point of a defence."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.stochastic import draw, forward
from privsweep.training.full_batch.descent import Task
from privsweep.training.per_example import defended_sum
from privsweep.training.stacked import mixes_examples, numbers_of

# Numbers that one forward pass leaves behind.
_HELD = {"cpu": 2**24, "cuda": 2**30}


class OneByOne:
    """The models of a task, of any network."""

    def __init__(self, task: Task):
        self.task, self.net = task, task.net
        self.names = [name for name, _ in self.net.named_parameters()]
        self.state = {name: w.contiguous().clone() for name, w in task.start.items()}
        self.leaves = [self.state[name] for name in self.names]
        self.size = len(task.x) + 1  # records at once; all where they are normalised together
        if not mixes_examples(self.net):
            self.size = max(1, _HELD[task.x.device.type] // sum(numbers_of(self.net, task.x[:1])))

    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        each = [self._gradient(k, rng) for k, rng in enumerate(rngs)]
        return [torch.stack([grads[name] for grads in each]) for name in self.names]

    def _gradient(self, k: int, rng: Rng) -> dict[str, Tensor]:
        """Of model ``k``, whose buffers move on."""
        task = self.task
        self.net.load_state_dict({name: w[k] for name, w in self.state.items()})
        x, y = task.x, task.y
        if task.present[k]:
            x, y = torch.cat((x, task.own_x[k : k + 1])), torch.cat((y, task.own_y[k : k + 1]))
        noise = draw(self.net, len(x), rng.child("noise"), x.device)
        if "example_gradients" in task.defense.acts_at():
            total, _ = defended_sum(self.net, task.loss, x, y, noise, task.defense, rng)
        else:
            total = self._sum(x, y, noise)
        for name, buffer in self.net.named_buffers():
            if name in self.state:
                self.state[name][k] = buffer
        return {name: g / len(x) for name, g in total.items()}

    def _sum(self, x: Tensor, y: Tensor, noise: Tensors) -> dict[str, Tensor]:
        """The gradient of the sum of all losses, some records at a time."""
        parameters = dict(self.net.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in parameters.items()}
        for first in range(0, len(x), self.size):
            part = slice(first, first + self.size)
            outputs = forward(self.net, {name: z[part] for name, z in noise.items()}, x[part])
            value = self.task.loss(outputs, y[part]) * len(y[part])
            for own, g in zip(total.values(), torch.autograd.grad(value, list(parameters.values())), strict=True):
                own += g
        return total

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.names, leaves, strict=True))

    def packed(self, parameters: Tensors) -> list[Tensor]:
        return [parameters[name] for name in self.names]

    def buffers(self) -> Tensors:
        return {name: w for name, w in self.state.items() if name not in self.names}
