"""Random changes of training images, on the device and all of a batch at once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from privsweep.interface.randomness import Rng
from privsweep.interface.training import Augmentation

_MARGIN = 4  # pixels by which a crop may be shifted, as is usual for CIFAR-10 (He et al., 2016, section 4.2)


def changes(augment: Augmentation) -> Callable[[Tensor, Rng], Tensor] | None:
    """What a training does to its inputs ``[n, C, H, W]`` in every step; None for nothing."""
    return crop_flip if augment == "crop_flip" else None


def crop_flip(x: Tensor, rng: Rng) -> Tensor:
    """Images ``[n, C, H, W]``, each shifted by up to four pixels a side, zeros moving in, and mirrored or not."""
    count, _, height, width = x.shape
    generator = rng.generator(x.device)
    top, left = torch.randint(0, 2 * _MARGIN + 1, (2, count, 1), generator=generator, device=x.device)
    mirrored = torch.rand(count, 1, generator=generator, device=x.device) < 0.5
    rows = top + torch.arange(height, device=x.device)
    columns = torch.arange(width, device=x.device).expand(count, width)
    columns = left + torch.where(mirrored, columns.flip(1), columns)
    padded = pad(x, (_MARGIN,) * 4)
    return padded[
        torch.arange(count, device=x.device)[:, None, None], :, rows[:, :, None], columns[:, None, :]
    ].movedim(-1, 1)
