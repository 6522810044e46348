"""What the first dense layer behind convolutions was given, of its gradient of one example."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from privsweep.gradient_inversion.before_activation import Told
from privsweep.gradient_inversion.output_errors import output_errors
from privsweep.gradient_inversion.rank_one import nearest_rank_one
from privsweep.interface.data import Tensors

ROUNDING = 1e-7  # of a number
SUM = 1e-8  # of the largest of its kind, by which sums are off
_ANY = 1e3  # of the largest that was sent: an entry that nothing is known of
_CLEAR = 2.0  # times the least that is left, so that what is zero was not made so for being small
_TINY = 1e-30


@dataclass(frozen=True)
class BeforeDense:
    """In float64."""

    told: Told  # of the inputs, [V, n]
    errors: Tensor  # of the outputs, [V, K]
    doubt: Tensor  # [V, K], their deviations
    noise: Tensor  # [V], the deviation of the gradient's entries
    zeroed: Tensors  # [V] by parameter: an entry that was made zero was no larger


def before_dense(weight: Tensor, gradient: Tensors, name: str) -> BeforeDense:
    """By the gradient ``[V, ...]`` of the layer ``name`` of that ``weight`` ``[K, n]``.

    A row or column that was pruned altogether leaves an error or an input anywhere below what else would be left.
    """
    rows, sent, matrix = gradient[f"{name}.weight"].double(), gradient.get(f"{name}.bias"), weight.double()
    bias = output_errors(rows, matrix) if sent is None else sent.double()
    found = nearest_rank_one(rows, bias)
    whole = (found.errors.square() * (bias != 0)).sum(1, keepdim=True).clamp_min(_TINY)  # one, but for what was pruned
    along = (found.errors * bias).sum(1, keepdim=True) / whole  # the errors' norm: what noise has left of it
    along = torch.where(along.abs() < _TINY, _TINY, along)
    value, errors = found.inputs * found.size[:, None] / along, found.errors * along
    norm = value.norm(dim=1, keepdim=True).clamp_min(_TINY)
    noise = torch.maximum(found.noise, SUM * rows.abs().amax((1, 2)))
    least = _least_left(gradient)
    product, bound = (errors[:, :, None] * value[:, None]).abs(), _CLEAR * least[f"{name}.weight"][:, None, None]
    small = ((rows != 0) | (product <= bound)).all(2).all(1)
    most = torch.stack([g.abs().flatten(1).amax(1) for g in gradient.values()]).amax(0).double()
    zeroed = {n: torch.where(small, own, _ANY * most) for n, own in least.items()}
    no_row, no_column = (rows == 0).all(2), (rows == 0).all(1)
    errors = torch.where(no_row, bias, errors)
    of_input, of_error = (
        zeroed[f"{name}.weight"][:, None] / t.abs().amax(1, keepdim=True).clamp_min(_TINY) for t in (errors, value)
    )
    variance = (noise[:, None] / along).square() + (ROUNDING * value).square() + no_column * of_input.square() / 3
    spread = (noise[:, None] / norm).square() + (no_row & (bias == 0)) * of_error.square() / 3
    error = errors @ matrix
    doubt = spread @ matrix.square() + (ROUNDING * error).square()
    return BeforeDense(Told(value, variance.clamp_min(_TINY), error, doubt), errors, spread.sqrt(), noise, zeroed)


def _least_left(gradient: Tensors) -> Tensors:
    """Of what is not zero: of a parameter, and of the whole gradient where of that nothing is; 0 where all is zero."""
    left = {n: torch.where(g == 0, torch.inf, g.double().abs()).flatten(1).amin(1) for n, g in gradient.items()}
    least = torch.stack([*left.values()]).amin(0)
    return {name: torch.where(own.isfinite(), own, least).nan_to_num(0, 0, 0) for name, own in left.items()}
