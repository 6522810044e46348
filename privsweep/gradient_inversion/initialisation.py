"""Where the search for images starts, and the bounds that it keeps to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng

Init = Literal["normal", "uniform", "patch"]


def starting_point(
    init: Init, domain: Domain, batch: int, logits: int, noise: Mapping[str, tuple[int, ...]], rng: Rng
) -> Tensor:
    """Flat images on the scale of model inputs, then ``logits`` standard normal numbers, then ``noise``.

    normal: standard normal inputs. uniform: uniform pixels. patch: uniform pixels of one quarter, random for every
    image, repeated in all four (Wei et al., "A Framework for Evaluating Gradient Leakage Attacks", 2020, section 4).
    """
    drawn = [rng.child("noise", name).normal(*shape).flatten() for name, shape in noise.items()]
    channels, height, width = domain.shape
    if init == "normal":
        return torch.cat((rng.normal(batch * channels * height * width + logits), *drawn))
    generator = rng.generator()
    if init == "uniform":
        pixels = torch.rand(batch, channels, height, width, generator=generator)
    else:
        quarter = torch.rand(batch, channels, (height + 1) // 2, (width + 1) // 2, generator=generator)
        pixels = quarter.repeat(1, 1, 2, 2)[..., :height, :width]
    return torch.cat((domain.inputs(pixels).flatten(), rng.child("logits").normal(logits), *drawn))


def bounds(domain: Domain, shape: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
    """The smallest and the largest images ``shape``, flat, and no bounds on what follows them; ``[D]`` each.

    ``like`` ``[V, D]`` gives length, dtype and device.
    """
    ends = []
    for unbounded, edge in zip((-torch.inf, torch.inf), domain.box(like.device), strict=True):
        images = edge.to(like).expand(shape).flatten()
        ends.append(torch.cat((images, like.new_full((like.shape[1] - len(images),), unbounded))))
    return ends[0], ends[1]
