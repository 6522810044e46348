"""Layers that take their noise as an input, so that the caller says what is drawn and replicas can be stacked."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

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


def noise_layers(model: nn.Module) -> dict[str, Stochastic]:
    """The stochastic layers of ``model``, by the name of their noise; empty for a deterministic model."""
    named = model.named_modules()
    return {f"{name}.noise".lstrip("."): layer for name, layer in named if isinstance(layer, Stochastic)}


def draw(model: nn.Module, batch: int, rng: Rng, device: torch.device) -> dict[str, Tensor]:
    """Standard normal noise ``[batch, *noise_shape]`` for every stochastic layer, in the layer's dtype.

    Every layer draws from a stream of its own; float64 layers get the numbers of float32 ones.
    """
    noise = {}
    for name, layer in noise_layers(model).items():
        shape, generator = (batch, *layer.noise_shape), rng.child(name).generator(device)
        drawn = torch.randn(shape, generator=generator, device=device, dtype=torch.float32)
        noise[name] = drawn.to(layer.noise.dtype)
    return noise


def forward(model: nn.Module, noise: Tensors, x: Tensor) -> Tensor:
    """``model(x)`` with that noise; ``model`` keeps its own."""
    return functional_call(model, dict(noise), (x,)) if noise else model(x)
