"""Changed versions of a record that a model is asked about, too: such as its training may have seen."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

_SHIFTS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))  # pixels down, and right
MOST = 2 * len(_SHIFTS)


def changed(x: Tensor, number: int) -> Tensor:
    """Inputs ``[n, C, H, W]`` as they are (0), mirrored (1), or shifted by a pixel, zeros moving in, or both (to 17).

    The changes of ``crop_flip`` that leave most of an image in its place; Carlini et al., 2022, section VI.C.
    """
    down, right = _SHIFTS[number // 2]
    if down or right:
        height, width = x.shape[-2:]
        x = pad(x, (1,) * 4)[..., 1 - down : 1 - down + height, 1 - right : 1 - right + width]
    return x.flip(-1) if number % 2 else x
