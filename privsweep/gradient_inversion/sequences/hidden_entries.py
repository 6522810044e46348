"""Inputs that dropout has taken entries from, among the rows that a gradient spans.

Axes: ``n`` inputs, ``r`` rows, ``D`` entries.
"""

from __future__ import annotations

import torch
from torch import Tensor

_POWERS = 1.0, 0.7, 0.3  # of the misfits, whose sum is made least: convex, and then nearer and nearer to their number
_STEPS = 14  # of reweighting, at each
_SLOWER, _SMALLEST = 0.6, (1e-3, 1e-3, 1e-7)  # of an entry's size: by how much a misfit that counts for none shrinks
_RIDGE = 1e-10


def fewest_misfits(rows: Tensor, wanted: Tensor, weighed: Tensor) -> Tensor:
    """What a combination of orthonormal ``rows`` ``[r, D]`` leaves of ``wanted`` ``[n, D]``, in few entries.

    The least sum of absolute misfits passes over gross errors (Candes and Tao, "Decoding by linear programming", 2005),
    such as zeros of dropout; lower powers pass over more. ``weighed`` ``[n, D]``: what an entry's misfit counts.
    """
    scale, off, weight = wanted.abs().mean(), wanted, weighed
    for power, least in zip(_POWERS, _SMALLEST, strict=True):
        tolerance = 1.0
        for _ in range(_STEPS):
            part = rows * weight[:, None]
            normal = part @ rows.T
            diagonal = normal.diagonal(dim1=-2, dim2=-1)
            diagonal.add_(_RIDGE * diagonal.mean(-1, keepdim=True))
            off = wanted - torch.linalg.solve(normal, (part @ wanted[..., None])[..., 0]) @ rows
            tolerance = max(_SLOWER * tolerance, least)
            weight = weighed * (off.square() + (tolerance * scale) ** 2) ** (power / 2 - 1)
    return off
