"""What a decoder starts from: standardised features, He's initial values, and an output near the mean image."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn

_LEAST = 0.1  # deviation of a channel, as a part of the deviation of all

Learns = nn.ConvTranspose2d | nn.Conv2d | nn.Linear


class Standardisation(nn.Module):
    """Takes the mean away and divides by the deviation: of every channel of a map, or of every feature.

    Both are parameters that no training moves, so that decoders of differing features can be stacked.
    """

    def __init__(self, features: tuple[int, ...]):
        super().__init__()
        shape = (features[0], 1, 1) if len(features) == 3 else features
        self.mean = nn.Parameter(torch.zeros(shape), requires_grad=False)
        self.deviation = nn.Parameter(torch.ones(shape), requires_grad=False)

    def forward(self, z: Tensor) -> Tensor:
        return (z - self.mean) / self.deviation

    def measure(self, z: Tensor) -> None:
        """Of activations ``[n, ...]``. What hardly varies is not blown up: deviations have a least, by that of all."""
        over = (0, 2, 3) if z.dim() == 4 else (0,)
        least = _LEAST * z.std().clamp_min(1e-6)
        self.mean.copy_(z.mean(over).view_as(self.mean))
        self.deviation.copy_(z.std(over).view_as(self.deviation).clamp_min(least))


def standardise(decoder: nn.Sequential, z: Tensor) -> None:
    """Measures activations ``[n, ...]`` where the decoder standardises them; others stay as they are."""
    with torch.no_grad():
        for layer in decoder:
            if isinstance(layer, Standardisation):
                layer.measure(z)


def initialise(decoder: nn.Sequential) -> None:
    """Weights of He et al. (2015): of variance two by the inputs that reach one output. Biases are zero."""
    for layer in decoder.modules():
        if isinstance(layer, Learns):
            nn.init.normal_(layer.weight, std=(2 / _inputs(layer)) ** 0.5)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)


def start_at_mean(decoder: nn.Sequential, z: Tensor, pixels: Tensor) -> None:
    """Lets a decoder begin near the mean image of ``pixels`` ``[N, C, H, W]``, whatever the activations ``z``.

    Where these are large its sigmoid, the last layer, starts saturated otherwise, and on dark images it gets stuck at
    black.
    """
    last = [layer for layer in decoder if isinstance(layer, Learns)][-1]
    with torch.no_grad():
        last.weight.div_(decoder[:-1](z).std().clamp_min(1e-6))  # logits of unit spread
        assert last.bias is not None
        mean = pixels.mean(0).flatten() if isinstance(last, nn.Linear) else pixels.mean((0, 2, 3))
        last.bias.copy_(mean.clamp(0.01, 0.99).logit())


def _inputs(layer: Learns) -> int:
    """That reach one output."""
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.in_channels * max(1, prod(layer.kernel_size) // prod(layer.stride))
    return layer.weight[0].numel()
