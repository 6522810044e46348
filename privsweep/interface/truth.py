"""The truth, which a guess is scored against. Nothing of it is an argument of an attack.

Axes: ``V`` victims (captured messages), ``N`` images ``C, H, W`` behind one, ``M`` records whose membership is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor


@dataclass(frozen=True)
class Images:
    """The truth behind every victim's update. Never an argument of an attack."""

    pixels: Tensor  # [V, N, C, H, W] in [0, 1]
    labels: Tensor | None  # int64 [V, N]; None: not told, of updates that were captured elsewhere
    index: Tensor  # int64 [V, N]: positions in their split
    nearest: Tensor | None = None  # [V, N]: mean squared distance of [0, 1] pixels to the nearest image that is known
    others: Tensor | None = None  # [V, N, C, H, W] in [0, 1]: images of the same kind that are not behind the update


@dataclass(frozen=True)
class Membership:
    """The truth behind every candidate. Never an argument of an attack."""

    member: Tensor  # bool [M]: was in the training data
    index: Tensor  # int64 [M]: position in the training split, or in that of the others
    among: Literal["one training", "trainings"] = "one training"  # trainings: one each, with or blanked
    fair: Tensor | None = None  # bool [M]: whether who else is asked about tells nothing of it; None: of all


@dataclass(frozen=True)
class Sentences:
    """The truth behind every victim's message, of token sequences. Never an argument of an attack."""

    tokens: Tensor  # int64 [V, N, L]: a client's own part of its inputs, or all
    index: Tensor  # int64 [V, N]: positions in their split
    translations: Tensor | None = None  # int64 [V, N, L']: what they were sent for
    ordered: bool = True  # whether the message tells their order


@dataclass(frozen=True)
class Properties:
    """The truth behind every update, of examples with a property. Never an argument of an attack."""

    present: Tensor  # bool [V]: whether there are any
    index: Tensor  # int64 [V, N]: positions in their split


Truth = Images | Membership | Sentences | Properties
