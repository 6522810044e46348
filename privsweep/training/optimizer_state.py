"""What an optimiser remembers, as tensors that can be stored."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from privsweep.interface.data import Tensors


def state_of(optimizer: torch.optim.Optimizer, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
    """By the leaf's position and the name of what is remembered of it; copies."""
    return {
        f"{n}:{key}": value.detach().clone()
        for n, leaf in enumerate(leaves)
        for key, value in optimizer.state.get(leaf, {}).items()
        if isinstance(value, Tensor)
    }


def remember(optimizer: torch.optim.Optimizer, leaves: Sequence[Tensor], state: Tensors) -> None:
    """The way back, for an optimiser that has taken no step."""
    for label, value in state.items():
        n, _, key = label.partition(":")
        optimizer.state[leaves[int(n)]][key] = value.clone()
