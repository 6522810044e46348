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

    def value(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor) -> Tensor:
        """Non-negative, 0 where the residual is 0; differentiable."""
        ...

    def derivatives(
        self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """With respect to the first two arguments; None for one that is zero everywhere."""
        ...


class Squared:
    """The sum of squared differences over all parameters (Zhu et al., "Deep Leakage from Gradients", eq. 3)."""

    def value(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor) -> Tensor:
        return residual_squared

    def derivatives(
        self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        return torch.ones_like(residual_squared), None


class Cosine:
    """One minus the cosine of the angle between the gradients over all parameters (Geiping et al., 2020, eq. 4).

    It equals ``(<e, e> <G, G> - <e, G>^2) / (s (s + <g, G>))`` with ``s = |g| |G|``, where no difference of numbers
    close to 1 is taken. A gradient of norm zero is at distance 1 and has no derivative.
    """

    def value(self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor) -> Tensor:
        dot, _, norms, nonzero = _angle(residual_squared, residual_dot_target, target_squared)
        product = residual_squared.double() * target_squared.double()
        near = (product - residual_dot_target.double().square()).clamp(min=0)
        acute = nonzero & (dot > 0)
        # each branch is finite everywhere, so that autograd may go through both
        small = near / torch.where(acute, norms * (norms + dot), 1)
        large = 1 - dot / norms
        return torch.where(acute, small, torch.where(nonzero, large, 1)).to(residual_squared.dtype)

    def derivatives(
        self, residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
    ) -> tuple[Tensor, Tensor]:
        dot, squared, norms, nonzero = _angle(residual_squared, residual_dot_target, target_squared)
        by_squared = dot / (2 * squared * norms)
        by_dot = -(residual_squared.double() + residual_dot_target.double()) / (squared * norms)
        dtype = residual_squared.dtype
        return torch.where(nonzero, by_squared, 0).to(dtype), torch.where(nonzero, by_dot, 0).to(dtype)


def _angle(
    residual_squared: Tensor, residual_dot_target: Tensor, target_squared: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``<g, G>``, ``|g|^2``, ``|g| |G|``, and whether both norms are above rounding; float64."""
    residual_squared, residual_dot_target = residual_squared.double(), residual_dot_target.double()
    target_squared = target_squared.double()
    squared = residual_squared + 2 * residual_dot_target + target_squared
    nonzero = (squared > _ROUNDING * (residual_squared + target_squared)) & (target_squared > _TINY)
    squared = torch.where(nonzero, squared, 1)
    norms = (squared * torch.where(nonzero, target_squared, 1)).sqrt()
    return residual_dot_target + target_squared, squared, norms, nonzero


def squared_norm(gradient: Tensor) -> Tensor:
    """Of every victim's ``[V, ...]``, float64 ``[V]``. Large ones are not copied: only their rows add in float64."""
    if gradient.dim() < 3 or gradient[0].numel() <= _COPIED:
        return torch.linalg.vector_norm(gradient.flatten(1), dim=1, dtype=torch.float64).square()
    return torch.linalg.vector_norm(gradient.flatten(2), dim=2).double().square().sum(1)


def residual_products(residual: Tensor, target: Tensor, with_dot: bool) -> tuple[Tensor, Tensor | None]:
    """``<e, e>`` and, if asked, ``<e, G>``, ``[V]``.

    A distance that needs ``<e, G>`` needs ``|g|^2`` too, a difference of these sums, which float64 keeps when g is
    small.
    """
    residual, target = residual.flatten(1), target.flatten(1)
    if not with_dot:
        return residual.square().sum(1), None
    return squared_norm(residual), (residual * target).sum(1, dtype=torch.float64)
