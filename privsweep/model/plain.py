"""Layers that compute what their class is known for, so that others may compute it in their place."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

_KNOWN = ("torch.", "privsweep.")


def is_plain(layer: nn.Module) -> bool:
    """Whether it is no subclass of somebody else's, has nothing hooked to it, and no weight made of other parameters.

    The last two are how PyTorch normalises weights.
    """
    return type(layer).__module__.startswith(_KNOWN) and not is_hooked(layer) and not is_parametrized(layer)


def is_hooked(layer: nn.Module) -> bool:
    """Whether it calls what may change its inputs, its outputs or their gradients."""
    return any(getattr(layer, f"_{when}_hooks") for when in ("forward", "forward_pre", "backward", "backward_pre"))
