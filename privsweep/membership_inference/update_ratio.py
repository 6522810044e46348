"""How much likelier an update is with a record behind it than without: by products of gradients alone.

Axes: ``P`` public records, ``M`` candidates, ``V`` updates, ``D`` numbers of a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

_ZERO = 1e-9  # of the largest eigenvalue: what is below has come of rounding
_SHARE = 0.5  # of an update's numbers: as many directions count at most
_LEAST = 1e-6  # of an update's mean square: noise where the span holds all of it, in networks with few numbers
_BLOCK = 128  # gradients whose products with those that come after them are taken at once
_TINY = 1e-30


@dataclass(frozen=True)
class Products:
    """Of gradients, float64."""

    public: Tensor  # [P, P] of public records' with each other
    asked: Tensor  # [P, M] with candidates'
    seen: Tensor  # [P, V] with updates
    own: Tensor  # [M] of each candidate's with the update it is asked of
    squares: Tensor  # [M] of candidates' with themselves
    lengths: Tensor  # [V] of updates with themselves


def products(
    gradients: Callable[[slice], Tensor],
    public: int,
    updates: Tensor,
    asked: Tensor,
    size: int,
    watch: Callable[[int, int], None] = lambda done, total: None,
) -> Products:
    """Of the gradients ``[n, D]`` of public records, which come first, and of candidates.

    Of no more than ``2 * size`` gradients at once: where there are more, they are computed again for each part of the
    public ones. ``updates`` ``[V, D]``, ``asked`` ``[M]`` their positions.
    """
    count, wide = len(asked), {"dtype": torch.float64, "device": updates.device}
    found = torch.zeros(public, public + count, **wide)  # type: ignore[call-overload]
    seen = torch.zeros(public, len(updates), **wide)  # type: ignore[call-overload]
    own, squares = (torch.zeros(count, **wide) for _ in range(2))  # type: ignore[call-overload]
    parts = [slice(n, min(n + size, public)) for n in range(0, public, size)]
    parts += [slice(n, min(n + size, public + count)) for n in range(public, public + count, size)]
    first = [part for part in parts if part.stop <= public]
    for n, rows in enumerate(first):
        here = gradients(rows)
        seen[rows] = here @ updates.T
        for columns in parts[n:]:
            there = here if columns is rows else gradients(columns)
            found[rows, columns] = _with_each_other(here) if columns is rows else here @ there.T
            if n == 0 and columns.start >= public:
                of = slice(columns.start - public, columns.stop - public)
                own[of], squares[of] = (there * updates[asked[of]]).sum(1), there.square().sum(1)
        watch(rows.stop, public)
    among = found[:, :public].triu()
    return Products(among + among.triu(1).T, found[:, public:], seen, own, squares, updates.square().sum(1))


def _with_each_other(rows: Tensor) -> Tensor:
    """Their products: on the diagonal and above it, and some below."""
    found = rows.new_empty(len(rows), len(rows))
    for n in range(0, len(rows), _BLOCK):
        found[n : n + _BLOCK, n:] = rows[n : n + _BLOCK] @ rows[n:].T
    return found


def as_long_as_means(of: Products, asked: Tensor, examples: int) -> Products:
    """With every update as long as the mean of so many public records' gradients is: only its direction counts."""
    count, squares = len(of.public), of.public.diagonal()
    shared = ((of.public.sum() - squares.sum()) / (count * (count - 1))).clamp_min(0)
    longer = ((shared + (squares.mean() - shared) / examples) / of.lengths.clamp_min(_TINY)).sqrt()
    return replace(of, seen=of.seen * longer, own=of.own * longer[asked], lengths=of.lengths * longer.square())


def log_ratios(of: Products, asked: Tensor, examples: int, numbers: int) -> Tensor:
    """The logarithm of how much likelier each candidate's update is with it, ``[M]``; 0 where there are no numbers.

    An update is the mean of ``examples`` gradients, and noise: Gaussian, with the mean of the public records' gradients
    and their covariance over ``examples``; what an update has beyond the span of these is taken for noise that is alike
    in all of its ``numbers``. Where they are no fewer than half as many as those, the span is that of the directions in
    which they vary most: in the others they vary by chance too little, and an update would seem certain there. A record
    that is behind an update moves the mean by its own gradient's share. The ratio of the two densities turns the
    record's gradient away from directions that many records share (Fisher's discriminant), which a plain product with
    the update, or its cosine, does not.
    """
    if not of.public.isfinite().all():
        return torch.zeros_like(of.own)
    count, mean = len(of.public), of.public.mean()
    each = of.public.mean(1, keepdim=True)  # of a public record with the mean gradient
    with_asked, with_seen = of.asked.mean(0), of.seen.mean(0)
    values, vectors, updates, noise = _spanned(of, numbers)
    candidates = vectors.T @ (of.asked - with_asked - each + mean)
    weights = (1 / (examples * (count - 1) * noise + values))[:, asked]
    along = of.own - with_asked - with_seen[asked] + mean - (candidates * updates[:, asked] * weights).sum(0)
    square = of.squares - 2 * with_asked + mean - (candidates.square() * weights).sum(0)
    ratio = (along - square / (2 * examples)) / (examples * noise[asked])
    return ratio.nan_to_num(0.0, 0.0, 0.0)


def beyond(of: Products, numbers: int) -> Tensor:
    """What every update has beyond the span of public records' gradients: its variance by number, ``[V]``."""
    return _spanned(of, numbers)[3]


def _spanned(of: Products, numbers: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values ``[k, 1]`` and vectors ``[P, k]`` of the span, updates in it ``[k, V]``, and the noise of each ``[V]``."""
    count, mean = len(of.public), of.public.mean()
    each, with_seen = of.public.mean(1, keepdim=True), of.seen.mean(0)
    values, vectors = torch.linalg.eigh(of.public - each - each.T + mean)
    kept = values > _ZERO * values[-1].clamp_min(_TINY)
    kept[: max(0, count - int(_SHARE * numbers))] = False
    values, vectors = values[kept, None], vectors[:, kept]
    updates = vectors.T @ (of.seen - with_seen - each + mean)
    left = of.lengths - 2 * with_seen + mean - (updates.square() / values).sum(0)
    least = _LEAST * of.lengths / numbers + _TINY
    return values, vectors, updates, (left / max(1, numbers - len(values))).maximum(least)
