"""Captured gradients of weights as matrices that are only multiplied with, factorised where they are of low rank.

A weight's gradient is a sum of outer products: for a dense layer one per image, for a convolution one per image and
position. Their number therefore bounds the rank of an undefended gradient. Its right factor spans the layer's inputs:
for a dense first layer the images themselves, which is the analytic attack on such layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from privsweep.compiled.matrices import both_products
from privsweep.gradient_inversion.engine.distance import squared_norm

_SPARE = 2  # columns beyond the rank, so that the random sketch misses nothing
SLICE = 2**24  # entries factorised at once, in float64: 128 MiB, which malloc gives back; of 16 MiB it kept gigabytes


class Matrices(Protocol):
    """``G`` of every victim, ``[V, outputs, inputs]``."""

    @property
    def squared_norm(self) -> Tensor:
        """Squared Frobenius norms ``[V]``, float64."""
        ...

    def __len__(self) -> int:
        """Victims."""
        ...

    def products(self, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        """``G a`` and ``G^T d``, float64, for inputs ``[V, n, inputs]`` and output gradients ``[V, n, outputs]``.

        ``[V, n, outputs]`` and ``[V, n, inputs]``.
        """
        ...

    def take(self, rows: Tensor) -> Matrices: ...


@dataclass(frozen=True)
class Factors:
    """``left @ right^T`` of every victim, in float64."""

    left: Tensor  # [V, outputs, k], orthonormal columns
    right: Tensor  # [V, inputs, k]
    squared_norm: Tensor

    def __len__(self) -> int:
        return len(self.left)

    def products(self, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        return (a @ self.right) @ self.left.mT, (d @ self.left) @ self.right.mT

    def take(self, rows: Tensor) -> Factors:
        return Factors(self.left[rows], self.right[rows], self.squared_norm[rows])


@dataclass(frozen=True)
class Whole:
    """Of full rank, as noise makes them: no evaluation copies one."""

    matrices: Tensor
    squared_norm: Tensor

    def __len__(self) -> int:
        return len(self.matrices)

    def products(self, a: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
        both = both_products(self.matrices, a[:, 0], d[:, 0]) if a.shape[1] == 1 else None  # of more PyTorch's gain
        if both is not None:
            return both[0][:, None].double(), both[1][:, None].double()
        dtype = self.matrices.dtype
        return (a.to(dtype) @ self.matrices.mT).double(), (d.to(dtype) @ self.matrices).double()

    def take(self, rows: Tensor) -> Whole:
        return Whole(self.matrices[rows], self.squared_norm[rows])


def low_rank_or_whole(gradient: Tensor, rank: int) -> Matrices:
    """Captured gradients ``[V, outputs, inputs]``, as factors if all victims' are exactly of that rank."""
    factors = factorise(gradient, rank)
    return Whole(gradient, squared_norm(gradient)) if factors is None else factors


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
    for matrix in matrices.split(max(1, SLICE // (outputs * inputs))):
        matrix = matrix.double()
        left, _ = torch.linalg.qr(matrix @ sketch)
        right = matrix.mT @ left
        missed = (matrix - left @ right.mT).flatten(1).norm(dim=1)
        if not (missed <= rounding * matrix.flatten(1).norm(dim=1)).all():
            return None
        parts.append((left, right))
    left, right = (torch.cat(side) for side in zip(*parts, strict=True))
    return Factors(left, right, right.square().sum((1, 2)))
