"""How far a dummy gradient g is from a captured gradient G, as a function of three numbers a victim.

With the residual ``e = g - G``, every distance used against gradients depends on ``residual_squared = <e, e>``,
``residual_dot_target = <e, G>`` and ``target_squared = <G, G>`` only. Written in the residual rather than in
``<g, G>`` and ``<g, g>``, it keeps its precision where it goes to zero, which is where an attack succeeds.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

_ROUNDING = 1e-14  # |g|^2 is a difference of float64 numbers: below this share of them it is rounding error
_TINY = 1e-60  # a squared norm below counts as zero
_COPIED = 2**17  # entries of a victim up to which all are added in float64


class Distance(Protocol):
    """All arguments and results are ``[V]``, of the arguments' dtype."""

    needs_dot: bool  # whether it depends on ``residual_dot_target``

    def value(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor) -> Tensor:
        """Non-negative, 0 where the residual is 0; differentiable."""
        ...

    def with_factors(
        self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The value, and the derivative by g: the factor of e and that of G in it; None for one that is zero."""
        ...


class Squared:
    """The sum of squared differences over all parameters (Zhu et al., "Deep Leakage from Gradients", eq. 3)."""

    needs_dot = False

    def value(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor) -> Tensor:
        return residual_squared

    def with_factors(
        self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
    ) -> tuple[Tensor, Tensor, None]:
        return residual_squared, torch.full_like(residual_squared, 2), None


class Cosine:
    """One minus the cosine of the angle between the gradients over all parameters (Geiping et al., 2020, eq. 4).

    It equals ``(<e, e> <G, G> - <e, G>^2) / (s (s + <g, G>))`` with ``s = |g| |G|``, where no difference of numbers
    close to 1 is taken. A gradient of norm zero is at distance 1 and has no derivative.
    """

    needs_dot = True

    def value(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor) -> Tensor:
        return _Angle(residual_squared, residual_dot_target, target_squared).distance().to(residual_squared.dtype)

    def with_factors(
        self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        angle, dtype = _Angle(residual_squared, residual_dot_target, target_squared), residual_squared.dtype
        share = angle.nonzero / (angle.squared * angle.norms)
        by_dot = (angle.e_e + angle.e_t) * -share
        return angle.distance().to(dtype), (angle.dot * share).to(dtype), by_dot.to(dtype)


class _Angle:
    """``dot`` is ``<g, G>``, ``squared`` ``|g|^2``, ``norms`` ``|g| |G|``, ``nonzero`` whether both are above rounding.

    In float64. Where they are not, ``squared`` and ``norms`` are 1.
    """

    def __init__(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor):
        self.e_e, self.e_t, self.t_t = residual_squared.double(), residual_dot_target.double(), target_squared.double()
        self.dot = self.e_t + self.t_t
        squared = self.e_e + self.e_t + self.dot
        self.nonzero = (squared > _ROUNDING * (self.e_e + self.t_t)) & (self.t_t > _TINY)
        self.squared = torch.where(self.nonzero, squared, 1)
        self.norms = torch.where(self.nonzero, squared * self.t_t, 1).sqrt()

    def distance(self) -> Tensor:
        near = (self.e_e * self.t_t - self.e_t.square()).clamp(min=0)
        acute = self.nonzero & (self.dot > 0)
        # each branch is finite everywhere, so that autograd may go through both
        small = near / torch.where(acute, self.norms * (self.norms + self.dot), 1)
        large = 1 - self.nonzero * self.dot / self.norms
        return torch.where(acute, small, large)


def squared_norm(gradient: Tensor) -> Tensor:
    """Of every victim's ``[V, ...]``, float64 ``[V]``. Large ones are not copied: only their rows add in float64."""
    if gradient.dim() < 3 or gradient[0].numel() <= _COPIED:
        return torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64).square()
    return torch.linalg.vector_norm(gradient.flatten(2), dim=2).double().square().sum(1)


Products = tuple[list[Tensor], list[Tensor]]  # terms of ``<e, e>`` and, if they are asked for, of ``<e, G>``, [V] each


def residual_products(residual: Tensor, target: Tensor, with_dot: bool) -> Products:
    """Of one tensor a victim, ``[V, ...]``.

    A distance that needs ``<e, G>`` needs ``|g|^2`` too, a difference of these sums, which float64 keeps when g is
    small.
    """
    residual, target = residual.flatten(1), target.flatten(1)
    if not with_dot:
        return [residual.square().sum(1)], []
    return [squared_norm(residual)], [(residual * target).sum(1, dtype=torch.float64)]
