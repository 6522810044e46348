"""Conversions of stored pixels: channels, size, and the statistics that normalise them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from privsweep.interface.machine import check_memory

Channels = Literal["same", "grey", "rgb"]
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
CHUNK = 2048  # images that are float32 at a time


def recolour(images: Tensor, channels: Channels) -> Tensor:
    """uint8 ``[n, C, H, W]`` in the wanted number of channels; grey is the luma, colour repeats the grey."""
    if channels == "rgb" and images.shape[1] == 1:
        return images.repeat(1, 3, 1, 1)
    if channels == "grey" and images.shape[1] == 3:
        weights = torch.tensor(LUMA, device=images.device)[:, None, None]
        parts = [(part * weights).sum(1, keepdim=True).round_().byte() for part in images.split(CHUNK)]
        return torch.cat(parts)
    return images


def resized(images: Tensor, side: int | None) -> Tensor:
    """uint8 ``[n, C, side, side]``, bilinear with antialiasing; others than squares get distorted."""
    if side is None or images.shape[2:] == (side, side):
        return images
    return torch.cat([_resize(part, side) for part in images.split(CHUNK)])


def check_resize(side: int, count: int, what: str) -> None:
    """Raises UserError, opening with ``what``, where that many images of that side cannot be held."""
    check_memory(
        (count + 4 * min(count, CHUNK)) * side * side,  # bytes, and a part at a time in floating point
        f"{what}: dataset.resize={side} for {count:,} images",
        "take a smaller side, or fewer images by dataset.train_size and dataset.test_size",
    )


def _resize(images: Tensor, side: int) -> Tensor:
    scaled = interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return scaled.round_().clamp_(0, 255).byte()


def statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of the ``[0, 1]`` pixels, a channel each; a flat channel deviates by 1.

    From counts of the 256 values: the same to the last bit, whatever the number of threads.
    """
    values = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in images.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * values).sum()
        deviation = (share * (values - mean) ** 2).sum().sqrt().item()
        means.append(mean.item())
        deviations.append(deviation if deviation > 1e-6 else 1.0)
    return tuple(means), tuple(deviations)
