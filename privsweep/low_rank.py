"""Captured gradients of dense layers as thin factors, where they are exactly of low rank.

The gradient of a dense layer's weight is a sum of one outer product an image, so an undefended one has the
rank of its batch at most. Its right factor spans the layer's inputs: for the first layer the images
themselves, which is the analytic attack on such layers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_SPARE = 2  # columns beyond the rank, so that the random sketch misses nothing
_SLICE = 2**24  # matrix entries in float64 at once


@dataclass(frozen=True)
class Factors:
    """``left @ right^T`` of every victim, in float64."""

    left: Tensor  # [V, outputs, k], orthonormal columns
    right: Tensor  # [V, inputs, k]
    norm2: Tensor  # [V] squared Frobenius norm

    def take(self, rows: Tensor) -> Factors:
        return Factors(self.left[rows], self.right[rows], self.norm2[rows])


def factorise(matrices: Tensor, rank: int) -> Factors | None:
    """Factors of ``[V, outputs, inputs]`` of the given rank; None unless exact to rounding for every victim.

    The range is sketched with random columns (Halko et al., 2011, algorithm 4.1).
    """
    _, outputs, inputs = matrices.shape
    k = rank + _SPARE
    if 2 * k > min(outputs, inputs):
        return None
    generator = torch.Generator().manual_seed(0)
    sketch = torch.randn(inputs, k, generator=generator, dtype=torch.float64).to(matrices.device)
    rounding = 16 * torch.finfo(matrices.dtype).eps
    parts = []
    for matrix in matrices.split(max(1, _SLICE // (outputs * inputs))):
        matrix = matrix.double()
        left, _ = torch.linalg.qr(matrix @ sketch)
        right = matrix.mT @ left
        missed = (matrix - left @ right.mT).flatten(1).norm(dim=1)
        if not (missed <= rounding * matrix.flatten(1).norm(dim=1)).all():
            return None
        parts.append((left, right))
    left, right = (torch.cat(side) for side in zip(*parts, strict=True))
    return Factors(left, right, right.square().sum((1, 2)))
