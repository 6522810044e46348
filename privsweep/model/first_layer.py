"""The layer that sees the input itself."""

from __future__ import annotations

from torch import nn


def first_linear(model: nn.Module) -> str | None:
    """The name of the first layer with weights, if it is linear with a bias."""
    for name, layer in model.named_modules():
        if any(True for _ in layer.parameters(recurse=False)):
            return name if isinstance(layer, nn.Linear) and layer.bias is not None else None
    return None
