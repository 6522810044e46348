"""Which reconstruction belongs to which original, where one update hides several images.

This is scoring, not attack: a gradient of a batch does not tell the order of its images, so any order is as
good a reconstruction as any other. The assignment sees the truth; no reconstruction is changed by it.
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def match(guess: Tensor, truth: Tensor) -> Tensor:
    """The order of the reconstructions that has the least total MSE, victim by victim.

    ``guess`` and ``truth`` are pixels ``[V, N, C, H, W]``; the result is int64 ``[V, N]``:
    ``guess[v, order[v, n]]`` belongs to ``truth[v, n]``.
    """
    victims, count = guess.shape[:2]
    if count == 1:
        return torch.zeros(victims, 1, dtype=torch.int64, device=guess.device)
    order = [_assign(g, t) for g, t in zip(guess, truth, strict=True)]
    return torch.stack(order).to(guess.device)


def reorder(values: Tensor, order: Tensor) -> Tensor:
    """``values`` ``[V, N, ...]`` in the given order ``[V, N]``."""
    return values[torch.arange(len(values), device=values.device)[:, None], order]


def _assign(guess: Tensor, truth: Tensor) -> Tensor:
    cost = torch.cdist(truth.flatten(1).double(), guess.flatten(1).double()).square()
    _, columns = linear_sum_assignment(cost.cpu().numpy())
    return torch.from_numpy(columns)
