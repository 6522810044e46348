"""The discriminator that tells reconstructions from images patch by patch (Balle, Cherubin and Hayes, 2022, table VII).

PatchGAN: Isola et al., "Image-to-image translation with conditional adversarial networks" (2017).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

SMALLEST = 24  # pixels a side, with which one patch is left
_FILTERS = (1, 2, 4, 8)  # times the width
_STRIDES = (2, 2, 2, 1, 1)


def patch_gan(channels: int, width: int) -> nn.Sequential:
    """``[n, channels, H, W] -> [n, 1, h, w]``: logits of a patch being an image's, not a reconstruction's.

    Convolutions of 4x4 with one pixel of padding, and leaky ReLU of slope 0.2 between; nothing is normalised. The
    paper states strides and filters, which are those of a ``width`` of 64. ``SMALLEST`` pixels a side are needed.
    """
    layers: list[nn.Module] = []
    sizes = (channels, *(width * factor for factor in _FILTERS), 1)
    for (inputs, outputs), stride in zip(pairwise(sizes), _STRIDES, strict=True):
        layers += [nn.Conv2d(inputs, outputs, 4, stride, padding=1), nn.LeakyReLU(0.2)]
    network = nn.Sequential(*layers[:-1])
    for layer in network:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.02)  # as Isola et al. start
    return network


def judged(logits: torch.Tensor, real: bool) -> torch.Tensor:
    """Cross-entropy of taking every patch for an image's (``real``), or for a reconstruction's."""
    return nn.functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(real)))
