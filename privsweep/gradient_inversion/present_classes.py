"""Which classes a batch holds, by signs in the gradient of the output layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NOISE = 1.5  # times the largest sum of a column, for one entry: four deviations of ten classes' by about a hundred
_CLEAR = 10.0  # times the noise: a leak from others in which a class's own examples would show
_MOST = 0.7  # of the classes: where more occur, the others are likely to


@dataclass(frozen=True)
class PresentClasses:
    """What signs tell of every class, ``[V, K]``; of a gradient that is not finite, nothing."""

    lowest: Tensor  # the least of what only the class's own examples make negative
    seen: Tensor  # bool: it occurs
    unseen: Tensor  # bool: it shows, and nothing of it is the class's own


def present_classes(rows: Tensor | None, errors: Tensor, least: Tensor) -> PresentClasses:
    """By the gradient of the output layer's weight ``[V, K, d]``, where it is sent, and bias ``[V, K]``.

    Row c is the sum over examples of softmax_c times the features, but for the class's own, of which it is softmax_c
    minus one: of features that are not negative only the class's own examples make an entry so (Yin et al., "See
    through gradients", 2021, section 3.1). Others are first taken from the ``least`` that a feature may be. One example
    of other features than those that are mistaken for its class is enough, however sure of it the network is; on a
    network that has learnt they nearly always differ, and before, when all features are alike, never.

    Softmax minus one-hot adds up to zero over classes, and so does each column: what it does add up to is noise.
    """
    columns = errors[:, :, None]
    if rows is not None:
        columns = torch.cat((rows - least * columns, columns), 2)
    noise = _NOISE / columns.shape[1] ** 0.5 * columns.sum(1).abs().amax(1, keepdim=True)
    lowest = columns.amin(2)
    seen = lowest < -noise
    few = seen.sum(1, keepdim=True) <= _MOST * columns.shape[1]
    unseen = ~seen & (errors > 0) & (columns.amax(2) > _CLEAR * noise) & few
    return PresentClasses(lowest, seen, unseen)
