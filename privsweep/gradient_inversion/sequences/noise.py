"""How much noise there is on a layer's gradient."""

from __future__ import annotations

import torch
from torch import Tensor

ROUNDING = 1e-7  # of the largest singular value


def noise_level(sizes: Tensor, shape: torch.Size, most: int, known: float) -> float:
    """The standard deviation of an entry's noise, from singular values ``sizes``, descending, of a gradient.

    It is a sum of ``most`` products of an error and an input or fewer: what is beyond is noise alone, whose largest
    singular value is about the sum of the roots of both sides (Davidson and Szarek, 2001). Not less than ``known``, and
    than float32's rounding.
    """
    edge = sum(side**0.5 for side in shape)
    beyond = float(sizes[most]) if most < len(sizes) else 0.0
    return max(known, max(beyond, ROUNDING * float(sizes[0])) / edge)
