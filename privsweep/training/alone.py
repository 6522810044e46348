"""One replica in training, on the network itself: whatever its layers, and with every point of a defence."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.replayed import Replayed
from privsweep.interface.training import Training, replica
from privsweep.model.stochastic import noise_layers
from privsweep.training.frozen import moving, only_moving, train_mode
from privsweep.training.local import Looked, gradient, weights_of
from privsweep.training.stepper import Stepper, steady


class Alone:
    """The only replica of ``training``; its weights are the network's."""

    def __init__(self, training: Training, defense: Defense):
        self.net, self.loss, self.data, self.defense = training.net, training.loss, training.data, defense
        self.names = moving(self.net, training.trainable)
        self._begin(training.start)
        self.layout = torch.contiguous_format
        # A GPU's tensor cores read pixel by pixel. On a CPU that gains a fifth for LeNet, but oneDNN 3.13 (PyTorch
        # 2.15) then writes beyond its memory: in the backward pass of strided convolutions of few channels.
        if self.data.index[0].device.type == "cuda":
            self.layout = torch.channels_last
            self.net.to(memory_format=self.layout)
        parameters = dict(self.net.named_parameters())
        self.leaves: list[Tensor] = [parameters[name] for name in self.names]
        self.looked = Looked(dict(zip(self.names, self.leaves, strict=True)), noise_layers(self.net))
        self.whole = len(self.names) == len(parameters)
        self.steady = steady(defense)
        self.stepper = Stepper(training.schedule.optimizer, self.leaves)
        self.replayed = Replayed(self.move, self.data.index[0].device)

    def _begin(self, start: Tensors) -> None:
        self.net.load_state_dict(replica(start, 0))
        train_mode(self.net, set(self.names))

    def again(self, training: Training) -> None:
        self.data = training.data
        self._begin(training.start)
        self.stepper.forget()

    def at(self, done: Sequence[float]) -> None:
        self.stepper.at(done[0])

    def step(self, batches: Sequence[tuple[Tensor, int] | None], rngs: Sequence[Rng]) -> Tensor:
        [batch] = batches
        assert batch is not None
        positions, expected = batch
        if self.steady:
            return self.replayed(*self.given(positions), rngs=rngs)[0]
        return self.move(*self.given(positions), rngs=rngs, expected=expected)[0]

    def given(self, positions: Tensor) -> tuple[Tensor, ...]:
        """What ``move`` takes."""
        rows = self.data.index[0].index_select(0, positions)
        return self.data.read(rows) if self.data.waits else (rows,)

    def move(self, *given: Tensor, rngs: Sequence[Rng], expected: int | None = None) -> tuple[Tensor, ...]:
        """A whole step, of the examples at ``given`` positions or of those themselves; the loss ``[1]``."""
        [rng] = rngs
        x, y = given if self.data.waits else self.data.read(*given)
        if self.data.augment is not None:
            x = self.data.augment(x, rng.child("augment"))
        if x.dim() == 4:
            x = x.contiguous(memory_format=self.layout)
        with nullcontext() if self.whole else only_moving(self.net, set(self.names)):
            grads, value = gradient(
                self.net, self.loss, x, y, self.defense, rng, expected, unseen=True, looked=self.looked
            )
        self.stepper.step([grads[name] for name in self.names])
        return (value[None],)

    def weights(self) -> Tensors:
        return {name: w[None] for name, w in weights_of(self.net).items()}

    def state(self) -> Tensors:
        return self.stepper.state()

    def remember(self, state: Tensors) -> None:
        self.stepper.remember(state)
