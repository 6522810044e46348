"""Sparse explanations of several measurements at once, by the same few atoms.

Axes: ``I`` items, ``G`` groups of measurements of each, ``A`` entries of a measurement, ``R`` measurements of a group,
``N`` atoms.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CONVEX, _SHARP = 40, 60  # steps of reweighting
_FLOORS = 1e-5, 1e-7  # of the largest size, below which an atom is dropped
_RIDGE = 1e-9  # of a group's square that is taken for noise at least


def fewest_atoms(measured: Tensor, atoms: Tensor, noise: Tensor, free: int, keep: int) -> Tensor:
    """Sizes ``[I, N - free]`` of what ``atoms`` ``[G, A, N]`` are in ``measured`` ``[I, G, A, R]``, the largest 1.

    An atom has a coefficient of its own in every measurement of an item, and counts once however many use it: what is
    minimised is the sum of the atoms' sizes (root mean squares over measurements), which is convex, and from there how
    many are not zero; both by iterated reweighting. Of a group's square ``noise`` ``[I, G]`` is no atom's. The last
    ``free`` atoms do not count. Of the others ``keep`` are left to the second part.
    """
    count = atoms.shape[2] - free
    share = torch.ones(len(measured), atoms.shape[2], dtype=atoms.dtype)
    for _ in range(_CONVEX):
        share = _squares(_lightest(measured, atoms[None], share, noise), count, _FLOORS[0]).sqrt()
    best = share[:, :count].topk(min(keep, count), 1).indices
    kept = torch.cat((best, torch.arange(count, atoms.shape[2]).expand(len(best), -1)), 1)
    own, share = atoms.permute(2, 0, 1)[kept].permute(0, 2, 3, 1).contiguous(), share.gather(1, kept)
    for _ in range(_SHARP):
        share = _squares(_lightest(measured, own, share, noise), best.shape[1], _FLOORS[1])
    return torch.zeros_like(share[:, :1]).repeat(1, count).scatter_(1, best, share[:, : best.shape[1]].sqrt())


def _squares(found: Tensor, count: int, floor: float) -> Tensor:
    """Mean squares of the first ``count`` atoms' coefficients, the largest 1; 1 of the others."""
    square = found.square().mean((1, 3))
    largest = square[:, :count].amax(1, keepdim=True).clamp_min(1e-300)
    square = square / largest + floor**2
    square[:, count:] = 1
    return square


def _lightest(measured: Tensor, atoms: Tensor, share: Tensor, noise: Tensor) -> Tensor:
    """The coefficients ``[I, G, N, R]`` with the least sum of squares, each over its atom's ``share`` ``[I, N]``."""
    weighted = atoms * share[:, None, None]
    normal = weighted @ atoms.mT
    diagonal = normal.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(noise.clamp_min(_RIDGE)[..., None] * diagonal.mean(-1, keepdim=True))
    return weighted.mT @ torch.linalg.solve(normal, measured)
