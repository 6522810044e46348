"""The total variation of images, by which searches for images prefer smooth ones."""

from __future__ import annotations

import torch
from torch import Tensor


def add_total_variation(images: Tensor, weight: float, gradient: Tensor) -> Tensor:
    """``weight`` times the mean absolute step down plus the mean absolute step right, ``[V]``; Geiping et al., 2020.

    Means run over all images ``[V, B, C, H, W]`` of a victim. Its gradient is added to ``gradient`` in place.
    """
    total = images.new_zeros(len(images))
    for axis in (3, 4):
        length = images.shape[axis] - 1
        if not length:
            continue
        step = images.narrow(axis, 1, length) - images.narrow(axis, 0, length)
        scale = weight * len(step) / step.numel()
        total.add_(torch.linalg.vector_norm(step.flatten(1), 1, dim=1), alpha=scale)
        sign = step.sign_()
        gradient.narrow(axis, 1, length).add_(sign, alpha=scale)
        gradient.narrow(axis, 0, length).sub_(sign, alpha=scale)
    return total
