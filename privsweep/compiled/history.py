"""The direction of L-BFGS from the histories of many victims, on a CPU (``history.c``)."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import torch
from torch import Tensor

from privsweep.compiled.library import library
from privsweep.compiled.threads import at_once


class _History(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("steps", "changes", "order", "triangle", "last", "keep")),
        *((name, ctypes.c_void_p) for name in ("gamma", "g", "change", "out")),
        *((name, ctypes.c_int64) for name in ("size", "used", "dim")),
    )


def directions(
    steps: Tensor,
    changes: Tensor,
    order: Tensor,
    triangle: Tensor,
    last: Tensor,
    keep: Tensor,
    gamma: Tensor,
    g: Tensor,
    change: Tensor,
) -> Tensor | None:
    """Minus the inverse Hessian's product with ``g``, ``[V, D]``; None where there is no code for such tensors.

    ``steps``, ``changes`` ``[V, size, D]``; ``order`` ``[V, used]``, their slots from old to new; ``triangle`` ``[V,
    size, size]`` in float64, into which the products with the newest ``change`` ``[V, D]`` are written at ``last``
    ``[V]`` where ``keep`` ``[V]`` says so; ``gamma`` ``[V]``.
    """
    found = None
    if all(t.device.type == "cpu" and t.is_contiguous() for t in (steps, changes, triangle)):
        found = library("history", steps.dtype, _agrees)
    if found is None:
        return None
    victims, size, dim = steps.shape
    out = torch.empty_like(g)
    tensors = [steps, changes, order.contiguous(), triangle, last.contiguous(), keep.contiguous()]
    tensors += [gamma.contiguous(), g.contiguous(), change.contiguous(), out]
    history = _History(*(t.data_ptr() for t in tensors), size, order.shape[1], dim)

    def of(part: tuple[int, int]) -> int:
        return int(found.directions(ctypes.byref(history), *map(ctypes.c_int64, part)))

    shares = max(1, min(torch.get_num_threads(), victims))
    if any(at_once(of, [*pairwise(victims * k // shares for k in range(shares + 1))])):
        raise MemoryError("no memory for a direction")
    return out


def _agrees(dtype: torch.dtype) -> bool:
    """With PyTorch's products and solutions, to rounding, where the newest pair is kept and where it is not."""
    random = torch.Generator().manual_seed(0)
    steps, changes = (torch.randn(2, 7, 53, generator=random, dtype=torch.float64) for _ in range(2))
    changes = steps + 0.3 * changes
    g, last, keep = torch.randn(2, 53, generator=random), torch.tensor([6, 6]), torch.tensor([True, False])
    order = torch.tensor([[3, 4, 5, 6, 0, 1, 2], [*range(7)]])
    gamma = torch.tensor([0.7, 1.2])
    by_age = [torch.stack([t[v, order[v]] for v in range(2)]).to(dtype) for t in (steps, changes)]
    s, y = (t.double() for t in by_age)
    upper = (s @ y.mT).triu()
    given = upper.clone()
    given[0, :, 6] = 0
    found = directions(
        steps.to(dtype), changes.to(dtype), order, given, last, keep, gamma.to(dtype), g.to(dtype), by_age[1][:, 6]
    )
    a = torch.linalg.solve_triangular(upper, s @ g.double()[..., None], upper=True)
    r = gamma.double()[:, None, None] * (g.double()[..., None] - y.mT @ a)
    behind = upper.diagonal(dim1=1, dim2=2)[..., None] * a - y @ r
    expected = -(r + s.mT @ torch.linalg.solve_triangular(upper.mT, behind, upper=False)).squeeze(2)
    assert found is not None
    near = 1e4 * torch.finfo(dtype).eps
    return bool((found - expected).abs().max() <= near * expected.abs().max())
