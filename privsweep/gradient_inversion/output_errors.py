"""The errors of an output layer that has no bias, whose gradient would be the errors."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from privsweep.gradient_inversion.rank_one import nearest_rank_one

_LEAST, _MOST = -14.0, 14.0  # logarithms of an input's norm
_POINTS, _ROUNDS = 513, 5  # tried at once; each time between the best one's neighbours: to 1e-11


def output_errors(rows: Tensor, weight: Tensor) -> Tensor:
    """``[V, K]`` behind gradients ``[V, K, D]`` of the cross-entropy of one example each; the ``weight`` is ``[K, D]``.

    The gradient is errors times input and tells both but for a factor. Errors are softmax less one-hot, and the softmax
    follows from the input, so that the factor is the only unknown of as many equations as there are classes: three, at
    least, for of two classes an input and its negative have the same gradient. (Zhu and Blaschko, "R-GAP", ICLR 2021,
    section 3.1, solve the one equation of a binary classifier.) The label's error is as large as all others together.
    """
    found = nearest_rank_one(rows, rows.new_zeros(rows.shape[:2]))
    label = found.errors.abs().argmax(1, keepdim=True)
    sign = -found.errors.gather(1, label).sign()
    answers = (found.inputs * sign) @ weight.mT  # to an input of norm one, as are the errors
    errors, wanted = found.errors * sign * found.size[:, None], one_hot(label, len(weight))
    low, high = (rows.new_full((len(rows), 1), end) for end in (_LEAST, _MOST))
    share = torch.linspace(0, 1, _POINTS, dtype=rows.dtype, device=rows.device)
    for _ in range(_ROUNDS):
        norm = torch.lerp(low, high, share).exp()[:, :, None]  # [V, points, 1]
        off = norm * ((norm * answers[:, None]).softmax(2) - wanted) - errors[:, None]
        best = norm.log()[:, :, 0].gather(1, off.square().sum(2).argmin(1, keepdim=True))
        reach = (high - low) / (_POINTS - 1)
        low, high = best - reach, best + reach
    return errors / best.exp()
