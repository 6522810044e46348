"""What a network's layers hold of a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

_KEPT = 6  # values, slopes and derivatives of every output that the four sweeps of gradient matching keep


@dataclass(frozen=True)
class Footprint:
    """Of one batch in the sweeps of gradient matching."""

    places: Mapping[str, int]  # of every convolution by name: how often its weight is used
    numbers: int  # activations with what is kept beside them, and patches with their columns


def footprint(model: nn.Module, shape: tuple[int, ...]) -> Footprint:
    """``shape`` ``(B, C, H, W)``. Black images pass a copy in eval mode, where ``model`` is: not on the meta device,
    for a network of a user's may read values."""
    part = deepcopy(model).eval()
    places: dict[str, int] = {}
    numbers = 0

    def count(name: str, layer: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            nonlocal numbers
            numbers += _KEPT * output.numel()
            if isinstance(layer, nn.Conv2d):
                places[name] = output.numel() // output.shape[1]
                numbers += 2 * places[name] * layer.in_channels * prod(layer.kernel_size)

        return hook

    for name, layer in part.named_modules():
        if not any(layer.children()):
            layer.register_forward_hook(count(name, layer))
    with torch.no_grad():
        part(next(part.parameters()).new_zeros(shape))
    return Footprint(places, numbers)
