"""The curvature pairs of L-BFGS for many independent problems, and the quasi-Newton direction they give.

The two-loop recursion (Nocedal and Wright, algorithm 7.4) amounts to a pair of triangular solves. With ``S`` and
``Y`` the pairs from old to new, ``R`` the upper triangle of ``S^T Y`` and ``D`` its diagonal, the
first loop solves ``R a = S^T g`` and the second ``R^T c = D a - Y^T r``, where ``r = gamma (g - Y a)``; the
result is ``r + S c``. So one iteration of all problems is four batched products with the history and two
small solves, instead of four kernels a pair. On a CPU compiled code does the same, victim by victim.
"""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.compiled.history import directions


class Curvature:
    """At most ``size`` pairs for each of ``V`` problems of dimension ``D``; each drops its own oldest.

    ``R`` is kept in float64, one column an update. Nothing synchronises with the host.
    """

    def __init__(self, like: Tensor, size: int):
        """``like`` ``[V, D]`` gives shape, type and device."""
        victims, dim = like.shape
        self.size = size
        self.used = 0  # slots that any problem can have filled
        self.steps = like.new_zeros(victims, size, dim)
        self.changes = like.new_zeros(victims, size, dim)
        self.stored = torch.zeros(victims, dtype=torch.int64, device=like.device)  # pairs ever stored
        identity = torch.eye(size, dtype=torch.float64, device=like.device)
        self.triangle = identity.repeat(victims, 1, 1)  # R by age; rows of pairs yet to come are the identity's
        self.gamma = like.new_ones(victims)  # the inverse Hessian to start from, as a multiple of the identity

    def take(self, rows: Tensor) -> None:
        """Keep the problems ``rows``, in ascending order, only; pairs move up, for a copy may not fit beside them."""
        places = rows.tolist()
        for name in ("steps", "changes"):
            pairs = getattr(self, name)
            for place, row in enumerate(places):
                if place != row:
                    pairs[place].copy_(pairs[row])
            setattr(self, name, pairs[: len(places)])
        for name in ("stored", "triangle", "gamma"):
            setattr(self, name, getattr(self, name).index_select(0, rows))

    def direction(self, g: Tensor, step: Tensor, change: Tensor, least: float) -> Tensor:
        """Store the pair (``step``, ``change``) where their product exceeds ``least``; return ``-H g``.

        All are ``[V, D]``. ``gamma`` becomes ``<s, y> / <y, y>`` of the newest pair that is stored.
        """
        product = (step * change).sum(1)
        keep = product > least
        self.gamma = torch.where(keep, product / change.square().sum(1), self.gamma)
        last = self._store(step, change, keep)
        order = self._by_age()
        triangle, gamma = self.triangle, self.gamma
        if (found := directions(self.steps, self.changes, order, triangle, last, keep, gamma, g, change)) is not None:
            return found
        history_s, history_y = self.steps[:, : self.used], self.changes[:, : self.used]

        along, column = (_products(history_s, v, order) for v in (g, change))
        self._extend(column, last, keep)
        upper = self.triangle[:, : self.used, : self.used]
        a = torch.linalg.solve_triangular(upper, along[..., None], upper=True)
        r = self.gamma[:, None, None] * (g[:, None] - torch.bmm(self._by_slot(a, order, g), history_y))
        behind = _products(history_y, r.squeeze(1), order)
        diagonal = upper.diagonal(dim1=1, dim2=2)
        c = torch.linalg.solve_triangular(upper.mT, (diagonal * a.squeeze(2) - behind)[..., None], upper=False)
        return -torch.baddbmm(r, self._by_slot(c, order, g), history_s).squeeze(1)

    def _store(self, step: Tensor, change: Tensor, keep: Tensor) -> Tensor:
        """Write the pair into each problem's oldest or next empty slot; return the pair's place by age."""
        full = self.stored >= self.size
        self.used = min(self.used + 1, self.size)
        if self.used == self.size:
            older = (keep & full)[:, None, None]
            self.triangle[:, :-1, :-1] = torch.where(older, self.triangle[:, 1:, 1:], self.triangle[:, :-1, :-1])
        place = torch.arange(len(step), device=step.device) * self.size + self.stored % self.size
        for history, new in ((self.steps, step), (self.changes, change)):
            pairs = history.flatten(0, 1)
            pairs.index_copy_(0, place, torch.where(keep[:, None], new, pairs.index_select(0, place)))
        last = self.stored.clamp(max=self.size - 1)
        self.stored = self.stored + keep
        return last

    def _by_age(self) -> Tensor:
        """Slots ``[V, used]`` from the oldest pair to the newest."""
        oldest = torch.where(self.stored > self.size, self.stored % self.size, 0)
        return (oldest[:, None] + torch.arange(self.used, device=oldest.device)) % self.size

    def _extend(self, column: Tensor, last: Tensor, keep: Tensor) -> None:
        """Write the products of all steps with the newest change into R, where that pair was stored."""
        place = last.clamp(max=self.used - 1)[:, None, None].expand(-1, self.used, 1)
        block = self.triangle[:, : self.used, : self.used]
        block.scatter_(2, place, torch.where(keep[:, None, None], column[..., None], block.gather(2, place)))

    def _by_slot(self, values: Tensor, order: Tensor, like: Tensor) -> Tensor:
        """Coefficients ``[V, used, 1]`` by age to ``[V, 1, used]`` by slot, in the history's precision."""
        values = values.squeeze(2).to(like.dtype)
        return torch.empty_like(values).scatter_(1, order, values)[:, None]


def _products(history: Tensor, v: Tensor, order: Tensor) -> Tensor:
    """Of every pair with ``v`` ``[V, D]``, by age, ``[V, used]`` in float64.

    A row transposed is what oneMKL reads the history for at the memory's speed: of other shapes and strides that mean
    the same, it takes up to fifty times as long.
    """
    return torch.bmm(history, v[:, None].mT).squeeze(2).double().gather(1, order)
