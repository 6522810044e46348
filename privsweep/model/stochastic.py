"""Layers that take their noise as an input, so that the caller says what is drawn and replicas can be stacked."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear

from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng


class Stochastic(nn.Module):
    """A layer with standard normal noise of shape ``noise_shape`` for every example.

    The buffer ``noise`` is what ``forward`` reads. It is zeros ``noise_shape``, so that a layer without
    noise is deterministic; for one forward, ``[B, *noise_shape]`` stands in for it. It is never stored.
    """

    noise: Tensor

    def __init__(self, *noise_shape: int):
        super().__init__()
        self.noise_shape = noise_shape
        self.register_buffer("noise", torch.zeros(noise_shape), persistent=False)


class Reparametrised(Stochastic):
    """A stochastic layer that samples a code between an encoder and a decoder.

    ``encoder`` gives the code's mean and the raw values of its deviation, ``[B, 2k]``; ``decoder`` takes the sample
    ``mean + deviation(raw) * noise``, ``[B, k]``. ``forward`` computes just that, and may append one column to the
    output: a term of the loss, which ``LinearBesideLossTerm`` hands on. Either of the two may be an ``nn.Identity``
    or an ``nn.Sequential`` of named layers. Gradient matching differentiates such layers by hand.
    """

    encoder: nn.Module
    decoder: nn.Module

    @abstractmethod
    def deviation(self, raw: Tensor) -> Tensor:
        """The standard deviation, of the shape of ``raw``, element by element."""

    @abstractmethod
    def deviation_derivatives(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """The first and the second derivative of ``deviation``."""

    def term_derivatives(self, encoded: Tensor) -> tuple[Tensor, Tensor] | None:
        """The first and the second derivative of the appended column, where it is a sum over ``encoded`` ``[B, 2k]``.

        Both ``[B, 2k]``, element by element. None: it is no such sum, or nothing is appended.
        """
        return None


class LinearBesideLossTerm(nn.Module):
    """A linear layer on all columns but the last, which it hands on as it is: a term of the loss, no logit.

    Not an ``nn.Linear``: what holds for one does not hold for the last column.
    """

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((linear(x[..., :-1], self.weight, self.bias), x[..., -1:]), -1)


def noise_layers(model: nn.Module) -> dict[str, Stochastic]:
    """The stochastic layers of ``model``, by the name of their noise; empty for a deterministic model."""
    named = model.named_modules()
    return {f"{name}.noise".lstrip("."): layer for name, layer in named if isinstance(layer, Stochastic)}


def draw(model: nn.Module, batch: int, rng: Rng, device: torch.device) -> dict[str, Tensor]:
    """Standard normal noise ``[batch, *noise_shape]`` for every stochastic layer, in the layer's dtype.

    Every layer draws from a stream of its own; float64 layers get the numbers of float32 ones.
    """
    return drawn(noise_layers(model), batch, rng, device)


def drawn(layers: Mapping[str, Stochastic], batch: int, rng: Rng, device: torch.device) -> dict[str, Tensor]:
    """The same, for layers that are known by the name of their noise."""
    noise = {}
    for name, layer in layers.items():
        shape, generator = (batch, *layer.noise_shape), rng.child(name).generator(device)
        numbers = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
        noise[name] = numbers.to(layer.noise.dtype)
    return noise


def forward(model: nn.Module, noise: Tensors, x: Tensor) -> Tensor:
    """``model(x)`` with that noise; ``model`` keeps its own."""
    return functional_call(model, dict(noise), (x,)) if noise else model(x)
