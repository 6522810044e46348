"""What can be asked: a client by its adversary, and an adversary's copy of a client by those who score it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Query(Protocol):
    """What a client sends for model inputs ``[n, C, H, W]``, as often as is asked: ``[n, ...]``.

    A client whose noise is drawn anew draws it for every call.
    """

    def __call__(self, x: Tensor) -> Tensor: ...


class Imitation(Protocol):
    """An adversary's copy of a client, on which its attack was made; the true sequences tell what became of it."""

    def guesses(self, tokens: Tensor) -> Tensor:
        """What the attack makes of the features of the copy, int64 ``[n, L]``, for sequences ``[n, L]``."""
        ...

    def translations(self, tokens: Tensor) -> Tensor:
        """The copy's own translations, int64 ``[n, L']``."""
        ...
