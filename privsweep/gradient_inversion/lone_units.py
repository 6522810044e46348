"""The inputs behind a dense layer's gradient of several examples, given away by units that only one of them activates.

The gradients of weight and bias side by side are errors times inputs, each input with a one at its end: a matrix whose
rank is the number of examples at most. Beyond that rank there is only noise, which is measured and cut off. The row
of a unit with an error for one example alone points along that example's input.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_FAINT = 5.0  # times the noise's expected length in a unit's row: who is not longer is not counted
_APART = 2.0  # times that length: how far noise is thought to move a row aside
_LEAST_BIAS = 1e-6  # of the largest: units below tell no ratio


@dataclass(frozen=True)
class Rows:
    """The gradients of ``H`` units, in float64, as combinations of ``N`` orthonormal rows."""

    units: Tensor  # [H, N]
    basis: Tensor  # [N, D + 1], the bias last
    noise: Tensor  # scalar: the standard deviation of an entry, of the gradients and of ``units`` alike


def nearest_of_rank(weight: Tensor, bias: Tensor, rank: int) -> Rows:
    """The nearest matrix of that rank to the gradients of a weight ``[H, D]`` and a bias ``[H]``, side by side."""
    matrix = torch.cat((weight, bias[:, None]), 1).double()
    height, width = matrix.shape
    rank = min(rank, height, width)
    wide = height < width
    top = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix).eigenvectors[:, -rank:]
    basis = torch.linalg.qr(matrix.T @ top).Q if wide else top
    units = matrix @ basis
    left = (matrix.square().sum() - units.square().sum()).clamp_min(0)
    return Rows(units, basis.T, (left / max((height - rank) * (width - rank), 1)).sqrt())


def inputs_by_agreement(weight: Tensor, bias: Tensor, examples: int, agreement: float) -> Tensor:
    """``[examples, D]`` from the gradients of a weight ``[H, D]`` and a bias ``[H]``.

    Units agree where the sine of the angle between their rows is at most ``agreement`` and what noise accounts for.
    The largest groups of units that agree are taken, and what no group explains is answered by the unit of the largest
    bias among those left over. Zeros where no unit tells anything, no numbers where a gradient is not finite.
    """
    if not (weight.isfinite().all() and bias.isfinite().all()):
        return weight.new_full((examples, weight.shape[1]), torch.nan)
    rows = nearest_of_rank(weight, bias, examples)
    lengths, biases = rows.units.norm(dim=1), (rows.units @ rows.basis[:, -1]).abs()
    told = (lengths > _FAINT * examples**0.5 * rows.noise) & (biases > _LEAST_BIAS * biases.max())
    if not told.any():
        return weight.new_zeros(examples, weight.shape[1])
    units, lengths, shares = rows.units[told], lengths[told], biases[told] / biases[told].sum()
    directions = units / lengths[:, None]
    turned = _APART * (examples - 1) ** 0.5 * rows.noise / lengths
    apart = (1 - (directions @ directions.T).square()).clamp_min(0).sqrt()
    near = apart <= agreement + turned[:, None] + turned
    left = torch.ones_like(shares, dtype=torch.bool)
    found = []
    for _ in range(examples):
        # Agreement counts first, the bias breaks ties: it says how well the ratio is conditioned.
        best = int(((near & left).sum(1) * left + shares * left).argmax())
        group = near[best] & left
        group[best] = True  # where none is left, it is taken again
        alike = units[group] * (directions[group] @ directions[best]).sign()[:, None]
        row = alike.sum(0) @ rows.basis
        found.append(row[:-1] / row[-1])
        left &= ~group
    return torch.stack(found).to(weight)
