"""Networks that are a sequence of layers: only these can be cut, or looked at layer by layer."""

from __future__ import annotations

from typing import TypeGuard

from torch import nn


def is_sequence(model: nn.Module) -> TypeGuard[nn.Sequential]:
    """Whether the children are applied one after the other, and nothing else happens."""
    return isinstance(model, nn.Sequential) and type(model).forward is nn.Sequential.forward
