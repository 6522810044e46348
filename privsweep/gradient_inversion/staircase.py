"""Rows of numbers that change in a few places, found again under noise."""

from __future__ import annotations

import torch
from torch import Tensor

_AT_ONCE = 2**22  # entries of the tables that are made together


def largest_steps(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Where ``rows`` ``[V, U, D]`` change, and by how much: the ``count`` changes that leave the least squares.

    Between changes rows are taken to be alike, after the last one zero. Returns the positions ``[V, count]``,
    ascending, of the first row after each, from 1 to ``U``, and what each row before exceeds those after it by,
    ``[V, count, D]``, as the means over all alike tell. Where fewer rows change, the others' changes are of nothing.
    ``count`` is at most ``U``. Exact: by dynamic programming (Bellman, 1961).
    """
    units = rows.shape[1]
    found = [_largest_steps(part.double(), count) for part in rows.split(max(1, _AT_ONCE // (units + 1) ** 2))]
    return torch.cat([at for at, _ in found]), torch.cat([change for _, change in found]).to(rows.dtype)


def _largest_steps(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    ends = torch.cat((torch.zeros_like(rows[:, :1]), rows.cumsum(1)), 1)  # [V, U + 1, D]: sums of all rows before
    gained = _explained(rows)
    best = torch.full_like(gained[:, 0], -torch.inf)
    best[:, 0] = 0
    earlier = []
    for _ in range(count):
        best, at = (best[:, :, None] + gained).max(1)
        earlier.append(at)
    cuts = [best.argmax(1)]
    for at in reversed(earlier):
        cuts.append(at.gather(1, cuts[-1][:, None]).squeeze(1))
    cut = torch.stack(cuts[::-1], 1)  # [V, count + 1], the first of them 0
    sums = ends.gather(1, cut[:, :, None].expand(-1, -1, rows.shape[2])).diff(dim=1)
    level = sums / cut.diff(dim=1)[:, :, None]
    after = torch.cat((level[:, 1:], torch.zeros_like(level[:, :1])), 1)
    return cut[:, 1:], level - after


def _explained(rows: Tensor) -> Tensor:
    """What the mean of rows ``a`` to ``b - 1`` takes off their squares, ``[V, U + 1, U + 1]``; -inf unless a < b."""
    units = rows.shape[1]
    table = rows.new_zeros(len(rows), units + 1, units + 1)
    table[:, 1:, 1:] = (rows @ rows.mT).cumsum(1).cumsum(2)  # entry (a, b): of the products of the first a and b rows
    own = table.diagonal(dim1=1, dim2=2)
    table = own[:, :, None] + own[:, None, :] - 2 * table
    place = torch.arange(units + 1, device=rows.device, dtype=rows.dtype)
    length = place - place[:, None]
    return torch.where(length > 0, table / length, -torch.inf)
