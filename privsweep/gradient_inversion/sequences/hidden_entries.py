"""Inputs that dropout has taken entries from, among the rows that a gradient spans.

Axes: ``n`` inputs, ``r`` rows, ``D`` entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS, _SLOWER = 28, 0.7  # of reweighting, and how much nearer to a count each comes
_RIDGE = 1e-10


def fewest_misfits(rows: Tensor, wanted: Tensor, weighed: Tensor) -> Tensor:
    """What a combination of orthonormal ``rows`` ``[r, D]`` leaves of ``wanted`` ``[n, D]``, in few entries.

    By least squares, reweighted until they count misfits whatever their size (Chartrand and Yin, "Iteratively
    reweighted algorithms for compressive sensing", 2008, with a power of 0). ``weighed`` ``[n, D]``: what an entry's
    misfit counts.
    """
    scale = tolerance = wanted.abs().mean(1, keepdim=True)
    off, weight = wanted, weighed
    for _ in range(_STEPS):
        part = rows * weight[:, None]
        normal = part @ rows.T
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        diagonal.add_(_RIDGE * diagonal.mean(-1, keepdim=True))
        off = wanted - torch.linalg.solve(normal, (part @ wanted[..., None])[..., 0]) @ rows
        tolerance = _SLOWER * tolerance
        weight = weighed * scale.square() / (off.square() + tolerance.square())
    return off
