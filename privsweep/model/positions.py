"""Positions that are no parameters."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def placed(x: Tensor) -> Tensor:
    """``[B, L, width]`` plus a sine or cosine of the place in every column (Vaswani et al., 2017, section 3.5)."""
    _, length, width = x.shape
    rate = torch.exp(torch.arange(0, width, 2, device=x.device) * (-math.log(10_000) / width))
    angle = torch.arange(length, device=x.device)[:, None] * rate
    return x + torch.stack((angle.sin(), angle.cos()), -1).flatten(1)
