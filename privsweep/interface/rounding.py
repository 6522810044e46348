"""How products are rounded: all of them on a GPU, or those of a training step.

``bfloat16`` leaves a gradient in float32 that somebody sees or that is clipped: a distance of nearly nothing does not
survive eight bits, nor does a bound on a norm. A weight difference is what rounded steps come to. ``tf32`` rounds all,
and is refused where gradients are clipped.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass
class _Steps:
    bfloat16: bool = False


_steps = _Steps()


def round_products(precision: Precision) -> None:
    """From now on, in this process.

    ``tf32``: those of a GPU, to ten bits. ``bfloat16``: those of a training step that averages over its batch, to eight
    bits, while weights and what an optimiser remembers stay in float32 (mixed precision: Micikevicius et al., 2018).
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    _steps.bfloat16 = precision == "bfloat16"


def rounded_step(device: torch.device) -> AbstractContextManager[object]:
    """For the outputs and the loss of a training step; its gradient follows them."""
    # Nothing is kept from use to use: a recorded step would read what was cast before it.
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False) if _steps.bfloat16 else nullcontext()


def precision_on(device: torch.device) -> Precision:
    """What ``round_products`` came to on a device."""
    if _steps.bfloat16:
        return "bfloat16"
    return "tf32" if torch.backends.cudnn.allow_tf32 and device.type == "cuda" else "float32"
