"""Which reconstruction belongs to which original, where one update hides several images.

This is scoring, not attack: a gradient of a batch does not tell the order of its images, so any order is as
good a reconstruction as any other. The assignment sees the truth; no reconstruction is changed by it.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TIE = 1e-6  # what a wrong label adds to a squared distance


def match(guess: Tensor, truth: Tensor, labels: Tensor | None = None, true_labels: Tensor | None = None) -> Tensor:
    """The order of the reconstructions that has the least total MSE, victim by victim.

    ``guess`` and ``truth`` are pixels ``[V, N, C, H, W]``; the result is int64 ``[V, N]``:
    ``guess[v, order[v, n]]`` belongs to ``truth[v, n]``. Labels ``[V, N]`` of both decide between reconstructions that
    are alike.
    """
    victims, count = guess.shape[:2]
    if count == 1:
        return torch.zeros(victims, 1, dtype=torch.int64, device=guess.device)
    wrong = torch.zeros(victims, count, count)
    if labels is not None and true_labels is not None:
        wrong = (true_labels[:, :, None] != labels[:, None]).cpu()
    order = [_assign(g, t, _TIE * w.double()) for g, t, w in zip(guess, truth, wrong, strict=True)]
    return torch.stack(order).to(guess.device)


def nearest(guess: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Each victim's reconstruction and original that are nearest of all pairs, pixels ``[V, 1, C, H, W]`` both.

    The assignment may part them, for the sake of the others.
    """
    pairs = []
    for g, t in zip(guess, truth, strict=True):
        at = int(_distances(g, t).argmin())
        pairs.append((g[at % len(g)], t[at // len(g)]))
    found, originals = zip(*pairs, strict=True)
    return torch.stack(found)[:, None], torch.stack(originals)[:, None]


def reorder(values: Tensor, order: Tensor) -> Tensor:
    """``values`` ``[V, N, ...]`` in the given order ``[V, N]``."""
    return values[torch.arange(len(values), device=values.device)[:, None], order]


def _assign(guess: Tensor, truth: Tensor, more: Tensor) -> Tensor:
    from scipy.optimize import linear_sum_assignment  # here, for single images need no order

    _, columns = linear_sum_assignment((_distances(guess, truth) + more).numpy())
    return torch.from_numpy(columns)


def _distances(guess: Tensor, truth: Tensor) -> Tensor:
    """Of every original's row the squared distances of all reconstructions, on the CPU."""
    return torch.cdist(truth.flatten(1).double(), guess.flatten(1).double()).square().cpu()
