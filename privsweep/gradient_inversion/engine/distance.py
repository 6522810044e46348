"""How far a dummy gradient g is from a captured gradient G, as a function of three numbers a victim.

With the residual ``e = g - G``, every distance used against gradients depends on ``r = <e, e>``,
``h = <e, G>`` and ``N = <G, G>`` only. Written in the residual rather than in ``<g, G>`` and ``<g, g>``, it
keeps its precision where it goes to zero, which is where an attack succeeds.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_ROUNDING = 1e-14  # |g|^2 comes as a difference of numbers in float64: so much of them is lost
_TINY = 1e-60  # a squared norm below counts as zero


class Distance(Protocol):
    """All arguments and results are ``[V]``, of the arguments' dtype."""

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


class Cosine:
    """One minus the cosine of the angle between the gradients over all parameters (Geiping et al., 2020, eq. 4).

    With ``m = |g|^2`` this is ``(r N - h^2) / (s (s + <g, G>))``, where ``s = |g| |G|``: no difference of numbers
    close to 1 is taken. A gradient of norm zero is at distance 1 and pulls nowhere.
    """

    def value(self, r: Tensor, h: Tensor, n: Tensor) -> Tensor:
        inner, _, scale, alive = _angle(r, h, n)
        near = (r.double() * n.double() - h.double().square()).clamp(min=0)
        ahead = alive & (inner > 0)
        # each branch is finite everywhere, so that autograd may go through both
        small = near / torch.where(ahead, scale * (scale + inner), 1)
        large = 1 - inner / scale
        return torch.where(ahead, small, torch.where(alive, large, 1)).to(r.dtype)

    def slopes(self, r: Tensor, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
        inner, squared, scale, alive = _angle(r, h, n)
        by_r, by_h = inner / (2 * squared * scale), -(r.double() + h.double()) / (squared * scale)
        return torch.where(alive, by_r, 0).to(r.dtype), torch.where(alive, by_h, 0).to(r.dtype)


def _angle(r: Tensor, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``<g, G>``, ``|g|^2``, ``|g| |G|``, and whether both norms are above rounding; float64."""
    r, h, n = r.double(), h.double(), n.double()
    squared = r + 2 * h + n
    alive = (squared > _ROUNDING * (r + n)) & (n > _TINY)
    squared = torch.where(alive, squared, 1)
    return h + n, squared, (squared * torch.where(alive, n, 1)).sqrt(), alive
