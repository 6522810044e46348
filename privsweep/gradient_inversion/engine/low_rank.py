"""Captured gradients of weights as matrices that are only multiplied with, thin where they are exactly of low rank.

A weight's gradient is a sum of outer products, one an image for a dense layer and one an image and place for a
convolution, so an undefended one has their number as its rank at most. Its right factor spans the layer's inputs:
for a dense first layer the images themselves, which is the analytic attack on such layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_SPARE = 2  # columns beyond the rank, so that the random sketch misses nothing
_SLICE = 2**24  # matrix entries in float64 at once


class Matrices(Protocol):
    """``G`` of every victim, ``[V, outputs, inputs]``."""

    @property
    def norm2(self) -> Tensor:
        """Squared Frobenius norms ``[V]``, float64."""
        ...

    def __len__(self) -> int:
        """Victims."""
        ...

    def through(self, a: Tensor) -> Tensor:
        """``G a`` for inputs ``[V, n, inputs]``: ``[V, n, outputs]``; float64."""
        ...

    def back(self, d: Tensor) -> Tensor:
        """``G^T d`` for output gradients ``[V, n, outputs]``: ``[V, n, inputs]``; float64."""
        ...

    def take(self, rows: Tensor) -> Matrices: ...


@dataclass(frozen=True)
class Factors:
    """``left @ right^T`` of every victim, in float64."""

    left: Tensor  # [V, outputs, k], orthonormal columns
    right: Tensor  # [V, inputs, k]
    norm2: Tensor

    def __len__(self) -> int:
        return len(self.left)

    def through(self, a: Tensor) -> Tensor:
        return (a @ self.right) @ self.left.mT

    def back(self, d: Tensor) -> Tensor:
        return (d @ self.left) @ self.right.mT

    def take(self, rows: Tensor) -> Factors:
        return Factors(self.left[rows], self.right[rows], self.norm2[rows])


@dataclass(frozen=True)
class Whole:
    """Of full rank, as noise makes them: each is read twice an evaluation and never copied."""

    matrices: Tensor
    norm2: Tensor

    def __len__(self) -> int:
        return len(self.matrices)

    def through(self, a: Tensor) -> Tensor:
        return (a.to(self.matrices.dtype) @ self.matrices.mT).double()

    def back(self, d: Tensor) -> Tensor:
        return (d.to(self.matrices.dtype) @ self.matrices).double()

    def take(self, rows: Tensor) -> Whole:
        return Whole(self.matrices[rows], self.norm2[rows])


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
