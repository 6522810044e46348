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
from privsweep.training.local import gradient, plain_gradient, weights_of


class Alone:
    """The only replica of ``training``; its weights are the network's."""

    def __init__(self, training: Training, defense: Defense):
        self.net, self.loss, self.data, self.defense = training.net, training.loss, training.data, defense
        self.names = moving(self.net, training.trainable)
        self.net.load_state_dict(replica(training.start, 0))
        self.layout = torch.contiguous_format
        # A GPU's tensor cores read pixel by pixel. On a CPU that gains a fifth for LeNet, but oneDNN 3.13 (PyTorch
        # 2.15) then writes beyond its memory: in the backward pass of strided convolutions of few channels.
        if self.data.index[0].device.type == "cuda":
            self.layout = torch.channels_last
            self.net.to(memory_format=self.layout)
        train_mode(self.net, set(self.names))
        parameters = dict(self.net.named_parameters())
        self.leaves: list[Tensor] = [parameters[name] for name in self.names]
        self.whole = len(self.names) == len(parameters)
        self.noise = list(noise_layers(self.net))
        self.replayed = Replayed(self._plain, self.data.index[0].device)

    def gradients(
        self, batches: Sequence[tuple[Tensor, int] | None], rngs: Sequence[Rng]
    ) -> tuple[Sequence[Tensor], Tensor]:
        [batch], [rng], [index] = batches, rngs, self.data.index
        assert batch is not None
        positions, expected = batch
        x, y = self.data.read(index[positions])
        if self.data.augment is not None:
            x = self.data.augment(x, rng.child("augment"))
        if x.dim() == 4:
            x = x.contiguous(memory_format=self.layout)
        with nullcontext() if self.whole else only_moving(self.net, set(self.names)):
            grads, value = gradient(self.net, self.loss, x, y, self.defense, rng, expected, self._replay)
        return [grads[name] for name in self.names], value[None]

    def _replay(self, x: Tensor, y: Tensor, noise: Tensors) -> tuple[Tensor, ...]:
        return self.replayed(x, y, *(noise[name] for name in self.noise))

    def _plain(self, x: Tensor, y: Tensor, *noise: Tensor) -> tuple[Tensor, ...]:
        return plain_gradient(self.net, self.loss, x, y, dict(zip(self.noise, noise, strict=True)))

    def weights(self) -> Tensors:
        return {name: w[None] for name, w in weights_of(self.net).items()}
