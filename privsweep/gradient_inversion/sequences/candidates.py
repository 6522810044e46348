"""Which words are behind a gradient of an embedding."""

from __future__ import annotations

from scipy.stats import chi2
from torch import Tensor

_FALSE = 0.25  # words, of all that do not occur, whose noise is taken for them


def words_behind(gradient: Tensor) -> tuple[Tensor, float]:
    """Tokens int64 ``[T]``, ascending, whose rows of ``gradient`` ``[K, D]`` hold more than noise; and its deviation.

    Melis et al., "Exploiting unintended feature leakage in collaborative learning" (2019), section 4.1: only words that
    occur have a gradient. Noise is in all rows, most of which are of words that do not.
    """
    square = gradient.double().square().sum(1)
    noise, width = square.median(), gradient.shape[1]
    bound = noise * float(chi2.isf(min(_FALSE / len(square), 0.5), width) / chi2.median(width))
    return (square > bound).nonzero()[:, 0].cpu(), float(noise / width) ** 0.5
