"""What the engine of gradient matching answers, and how it is called."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

from privsweep.interface.data import Tensors


class Match(NamedTuple):
    """The distance of ``V`` victims, the penalties, and the derivatives of their sum."""

    distance: Tensor  # [V] between the gradients alone
    images: Tensor  # [V, B, C, H, W]
    probabilities: Tensor  # [V, B, K], with respect to the label probabilities, each on its own
    penalty: Tensor  # [V]
    noise: Tensors  # name -> [V, B, ...], with respect to the noise of stochastic layers


class Matcher(Protocol):
    """Compares the gradients of dummy images with ``V`` captured gradients."""

    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match:
        """``images`` ``[V, B, C, H, W]`` as fed to the model, ``probabilities`` ``[V, B, K]`` of their labels.

        ``noise`` ``[V, B, ...]`` for every stochastic layer; None is no noise.
        """
        ...

    def take(self, rows: Tensor) -> Matcher:
        """The same for the victims ``rows`` only; a victim may be taken several times."""
        ...
