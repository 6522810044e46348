"""Which words are behind a gradient of an embedding."""

from __future__ import annotations

from torch import Tensor

_SURE = 6.0  # standard deviations of a row's square under noise alone


def words_behind(gradient: Tensor) -> tuple[Tensor, float]:
    """Tokens int64 ``[T]``, ascending, whose rows of ``gradient`` ``[K, D]`` hold more than noise; and its deviation.

    Melis et al., "Exploiting unintended feature leakage in collaborative learning" (2019), section 4.1: only words that
    occur have a gradient. Noise is in all rows, most of which are of words that do not.
    """
    square = gradient.double().square().sum(1)
    noise = square.median()
    bound = noise * (1 + _SURE * (2 / gradient.shape[1]) ** 0.5)
    return (square > bound).nonzero()[:, 0].cpu(), float(noise / gradient.shape[1]) ** 0.5
