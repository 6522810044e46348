"""Gradient quantisation: entries are rounded to numbers of few bits."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng

_LEVELS = 127  # of int8 on either side of zero, so that a value and its negative are rounded alike


@component
class GradientQuantization(Defense):
    """Rounds every entry of a gradient, in every training step and of a captured one.

    ``bits=16`` is a round trip through IEEE half precision (beyond 65504 it is infinite), ``bits=8`` a
    linear one: a parameter's largest magnitude becomes 127, zero stays zero, and the rest is rounded to
    whole numbers. ``bits=32`` is no defence.

    Zhu et al., "Deep Leakage from Gradients" (NeurIPS 2019), section 5, tries both, without giving the
    scheme of int8; here it is the symmetric one of Wu et al. (arXiv 2004.09602, section 3.1).
    """

    bits: Literal[32, 16, 8]

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        if self.bits == 32:
            return grad
        rounded = _half if self.bits == 16 else _int8
        return {name: rounded(g) for name, g in grad.items()}


def _half(g: Tensor) -> Tensor:
    return g.half().to(g.dtype)


def _int8(g: Tensor) -> Tensor:
    # the smallest normal number in place of zero, for a gradient that vanishes
    step = (g.abs().amax() / _LEVELS).clamp_min(torch.finfo(g.dtype).tiny)
    return (g / step).round().clamp(-_LEVELS, _LEVELS) * step
