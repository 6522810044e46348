"""The inputs behind a dense layer's gradient of several examples, told apart by the zeros that ReLU leaves in errors.

The gradients of weight and bias side by side are errors ``[H, N]`` times inputs ``[N, D + 1]``, each with a one at its
end. Any two factors of that rank are the true ones but for a matrix ``[N, N]``, of which each column makes one
example's errors of the first factor. Where a unit is inactive for an example the error is zero; who guesses ``N - 1``
such units has the column, which makes all of the example's other zeros, too.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from privsweep.gradient_inversion.lone_units import nearest_of_rank
from privsweep.interface.randomness import Rng

_EXACT = 1e-5  # of the gradient's norm: more than that beyond its rank is noise, which leaves no zeros
_RANK = 1e-6  # of the largest singular value
_ZERO = 1e-5  # of a unit's errors: what counts for zero
_SOUND = 1e-3  # units whose rows are nearer to dependent leave a column open
_SPARSE = 0.05  # of all units: an example that activates all but fewer is not found
_SAME = 1 - 1e-6  # cosine of columns that are one
_INDEPENDENT = 1e-2
_AGREE = 0.98  # of all units: that are active for an input just where its errors are not zero
_MOST = 24  # examples for which so many guesses might do
_GUESSES, _AT_ONCE = 2**20, 2**12
_EARLY = 2**17  # guesses by which half of the columns are found, if all will be
# Units are drawn from so many of the least errors, in turn: few examples activate those.
_SHARES = (1.0, 0.5, 0.25, 0.125)


def inputs_by_sparsity(
    weight: Tensor, bias: Tensor, layer: tuple[Tensor, Tensor], examples: int, rng: Rng
) -> Tensor | None:
    """``[n, D]``, n at most ``examples``, from the gradients of a weight ``[H, D]`` and a bias ``[H]``; or None.

    ``layer``: that weight and bias themselves, behind which ReLU follows. All inputs that leave a gradient come out, or
    none: a column is believed where each unit is active for the input that it makes just where its error is not zero.
    Dimitrov et al., "SPEAR: exact gradient inversion of batches in federated learning" (NeurIPS 2024), section 4; ours
    are the units that are drawn first, and inputs that are scaled by the bias's gradient. None under noise, and for
    more examples than guesses suffice for: of 1,024 units about eighteen.
    """
    if examples > _MOST or not (weight.isfinite().all() and bias.isfinite().all()):
        return None
    rows = nearest_of_rank(weight, bias, examples)
    left = rows.noise * sqrt(max(len(weight) - examples, 1) * max(weight.shape[1] + 1 - examples, 1))
    # On the CPU from here: a GPU factorises matrices this small one after the other.
    basis, left = rows.basis.cpu(), left.cpu()
    u, s, v = torch.linalg.svd(rows.units.cpu(), full_matrices=False)
    if not s[0] > 0 or left > _EXACT * s.norm():
        return None
    rank = int((s > _RANK * s[0]).sum())
    lengths = u[:, :rank].norm(dim=1)
    units = (lengths > _RANK * lengths.max()).nonzero()[:, 0]
    units = units[lengths[units].argsort()]
    errors, inputs = u[units, :rank] / lengths[units, None], s[:rank, None] * v[:rank] @ basis
    if rank == 1:
        return (inputs[:, :-1] / inputs[:, -1:]).to(weight)
    own = [parameter.detach().cpu()[units].double() for parameter in layer]
    generator, found = rng.generator(), errors.new_zeros(0, rank)
    for guess in range(0, _GUESSES, _AT_ONCE):
        share = _SHARES[guess // _AT_ONCE % len(_SHARES)]
        among = min(max(int(len(units) * share), 2 * rank), len(units))
        drawn = torch.randint(among, (_AT_ONCE, rank - 1), generator=generator)
        more = _new(_columns(errors, drawn), found)
        found = torch.cat((found, more))
        if len(found) < rank // 2 and guess + _AT_ONCE >= _EARLY:
            return None
        if len(more) and (columns := _independent(found, errors)) is not None:
            at = torch.linalg.solve(columns.mT, inputs)
            at = at[:, :-1] / at[:, -1:]
            active = at @ own[0].mT + own[1] > 0
            if ((active == ~_zero(errors, columns).mT).double().mean(1) >= _AGREE).all():
                return at.to(weight)
    return None


def _columns(errors: Tensor, drawn: Tensor) -> Tensor:
    """Unit vectors ``[n, N]`` with which the drawn units ``[G, N - 1]`` have no error, and enough others have none."""
    q, r = torch.linalg.qr(errors[drawn].mT, mode="complete")
    columns = q[:, :, -1][r.diagonal(dim1=1, dim2=2).abs().amin(1) > _SOUND]
    return columns[_zero(errors, columns).sum(0) >= max(2 * errors.shape[1], _SPARSE * len(errors))]


def _zero(errors: Tensor, columns: Tensor) -> Tensor:
    return (errors @ columns.mT).abs() < _ZERO


def _new(columns: Tensor, known: Tensor) -> Tensor:
    """Each of ``columns`` once, without those that are known."""
    once = ((columns @ columns.mT).abs() > _SAME).triu(1).any(0)
    return columns[~(once | ((columns @ known.mT).abs() > _SAME).any(1))]


def _independent(columns: Tensor, errors: Tensor) -> Tensor | None:
    """A basis ``[N, N]`` of them, of those with the most zeros; None where there is none."""
    basis, chosen = columns.new_zeros(0, columns.shape[1]), []
    if len(columns) < columns.shape[1]:
        return None
    for column in columns[_zero(errors, columns).sum(0).argsort(descending=True)]:
        rest = column - basis.mT @ (basis @ column)
        if (length := rest.norm()) > _INDEPENDENT:
            chosen.append(column)
            basis = torch.cat((basis, rest[None] / length))
            if len(chosen) == columns.shape[1]:
                return torch.stack(chosen)
    return None
