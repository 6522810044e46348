"""Networks that are a sequence of layers: only these can be cut, or looked at layer by layer."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn

from privsweep.model.plain import is_hooked


def is_sequence(model: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether the children are applied one after the other, and nothing else happens.

    A layer that stands in two places makes no sequence: PyTorch names it once where it lists children.
    """
    applies = isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward
    return applies and not is_hooked(model) and not any(map(_repeats, model.modules()))


def _repeats(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Sequential) and len(set(layer)) < len(layer)
