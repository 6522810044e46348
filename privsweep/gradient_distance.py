"""How far a dummy gradient g is from a captured gradient G, as a function of three numbers a victim.

With the residual ``e = g - G``, every distance used against gradients depends on ``r = <e, e>``,
``h = <e, G>`` and ``N = <G, G>`` only. Written in the residual rather than in ``<g, G>`` and ``<g, g>``, it
keeps its precision where it goes to zero, which is where an attack succeeds.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor


class Distance(Protocol):
    """All arguments and results are ``[V]``."""

    def value(self, r: Tensor, h: Tensor, n: Tensor) -> Tensor:
        """Non-negative, 0 where ``r`` is 0; differentiable."""
        ...

    def slopes(self, r: Tensor, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor | None]:
        """Derivatives with respect to ``r`` and ``h``; None for one that is zero everywhere."""
        ...


class Squared:
    """The sum of squared differences over all parameters (Zhu et al., "Deep Leakage from Gradients", eq. 3)."""

    def value(self, r: Tensor, h: Tensor, n: Tensor) -> Tensor:
        return r

    def slopes(self, r: Tensor, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor | None]:
        return torch.ones_like(r), None
