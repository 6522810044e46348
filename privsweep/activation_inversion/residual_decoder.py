"""A decoder of residual blocks that knows nothing of the network before the cut but the shape of what is sent."""

from __future__ import annotations

from itertools import pairwise
from math import log2, prod

import torch
from torch import nn

from privsweep.activation_inversion.initial_values import Standardisation, initialise
from privsweep.interface.data import Domain
from privsweep.model.residual import Residual

Shape = tuple[int, ...]
Size = tuple[int, int]
_SMALLEST = 4  # pixels a side of the map that a dense layer spreads features on, at least


def residual(features: Shape, domain: Domain, width: int, blocks: int) -> nn.Sequential:
    """A decoder ``[B, *features] -> [B, C, H, W]``, pixels in ``[0, 1]``.

    Features are standardised by those that the decoder is trained on (see ``standardise``), without which it learns
    slowly where they are small. Then a 3x3 convolution and ``blocks`` residual blocks; and, until the map has the size
    of the image, pixels repeated to about twice the height and width, and a convolution and as many blocks again; a
    convolution to the image's channels and a sigmoid. There are ``width`` channels at the image's size, and twice as
    many at half that size, and so on. Features that are no map, or one of a single pixel, are first spread on a small
    one by a dense layer; a map larger than the image shrinks in one step.

    Blocks are pre-activated (He et al., "Identity mappings in deep residual networks", 2016): ReLU, 3x3 convolution,
    twice. There is no other normalisation, which would take an image's own brightness and contrast away; a block
    starts as the identity instead (the second convolution at zero), so that training is stable. The other initial
    values are those of He et al. (2015).
    """
    size: Size = (domain.shape[1], domain.shape[2])
    layers: list[nn.Module] = [Standardisation(features)]
    if len(features) == 3 and prod(features[1:]) > 1:
        sizes = _sizes((features[1], features[2]), size)
        channels = [width * 2**n for n in reversed(range(len(sizes)))]
        layers.append(_convolution(features[0], channels[0]))
    else:
        sizes = _sizes(_small(size), size)
        channels = [width * 2**n for n in reversed(range(len(sizes)))]
        spread = (channels[0], *sizes[0])
        layers += [nn.Flatten(), nn.Linear(prod(features), prod(spread)), nn.Unflatten(1, spread)]
    layers += [_block(channels[0]) for _ in range(blocks)]
    for larger, (more, fewer) in zip(sizes[1:], pairwise(channels), strict=True):
        layers += [nn.Upsample(larger), _convolution(more, fewer)]
        layers += [_block(fewer) for _ in range(blocks)]
    layers += [nn.ReLU(), _convolution(width, domain.shape[0]), nn.Sigmoid()]
    decoder = nn.Sequential(*layers)
    initialise(decoder)
    with torch.no_grad():
        for layer in decoder:
            if isinstance(layer, Residual):
                layer.branch[-1].weight.zero_()  # type: ignore[operator,union-attr]
    return decoder


def _convolution(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def _block(channels: int) -> Residual:
    first, second = _convolution(channels, channels), _convolution(channels, channels)
    return Residual(nn.Sequential(nn.ReLU(), first, nn.ReLU(), second), nn.Sequential())


def _small(size: Size) -> Size:
    """The image's size, halved and rounded up as often as no side falls below the smallest."""
    half: Size = (-(-size[0] // 2), -(-size[1] // 2))
    return size if min(half) < _SMALLEST else _small(half)


def _sizes(start: Size, end: Size) -> list[Size]:
    """From ``start`` to ``end``, both included, in equal ratios of about two a side."""
    if start == end:
        return [start]
    steps = max(1, *(round(log2(b / a)) for a, b in zip(start, end, strict=True)))
    ratios = [b / a for a, b in zip(start, end, strict=True)]
    between: list[Size] = [
        (round(start[0] * ratios[0] ** (n / steps)), round(start[1] * ratios[1] ** (n / steps)))
        for n in range(1, steps)
    ]
    return [start, *between, end]
