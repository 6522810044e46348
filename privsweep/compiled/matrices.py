"""Products with every victim's own matrix, from both sides, on a CPU (``matrices.c``): each is read once."""

from __future__ import annotations

import ctypes
from itertools import pairwise

import torch
from torch import Tensor

from privsweep.compiled.library import library
from privsweep.compiled.threads import at_once


def both_products(matrices: Tensor, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor] | None:
    """``M a`` ``[V, rows]`` and ``M^T d`` ``[V, columns]``, of matrices ``[V, rows, columns]``; None without the code.

    ``a`` ``[V, columns]``, ``d`` ``[V, rows]``. PyTorch reads matrices that no cache holds twice for that.
    """
    if matrices.device.type != "cpu" or not matrices.is_contiguous():
        return None
    found = library("matrices", matrices.dtype, _agrees)
    if found is None:
        return None
    victims, rows, columns = matrices.shape
    a, d = a.to(matrices.dtype).contiguous(), d.to(matrices.dtype).contiguous()
    out, back = matrices.new_empty(victims, rows), matrices.new_empty(victims, columns)
    places = [ctypes.c_void_p(t.data_ptr()) for t in (matrices, a, d, out, back)]

    def of(part: tuple[int, int]) -> None:
        found.both(*places, *map(ctypes.c_int64, (*part, rows, columns)))

    shares = max(1, min(torch.get_num_threads(), victims))
    at_once(of, [*pairwise(victims * k // shares for k in range(shares + 1))])
    return out, back


def _agrees(dtype: torch.dtype) -> bool:
    """With PyTorch's products, to rounding, where rows and columns fill no vector."""
    random = torch.Generator().manual_seed(0)
    matrices, a, d = (torch.randn(shape, generator=random, dtype=dtype) for shape in ((3, 21, 85), (3, 85), (3, 21)))
    found = both_products(matrices, a, d)
    assert found is not None
    expected = (matrices @ a[..., None]).squeeze(2), (d[:, None] @ matrices).squeeze(1)
    near = 100 * torch.finfo(dtype).eps
    return all(bool((x - y).abs().max() <= near * y.abs().max()) for x, y in zip(found, expected, strict=True))
