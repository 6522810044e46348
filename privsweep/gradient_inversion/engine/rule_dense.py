"""How layers with parameters take part in gradient matching: they hold the captured gradient's share.

Per victim, ``g`` is the gradient of the loss, ``G`` the captured one, ``e = g - G`` the residual. Layers
report ``<e, e>`` and ``<e, G>`` and then act with the constant direction ``v = p e + q G`` as if it were
their weight. Shapes: activations ``[V * B, ...]``, ``p`` and ``q`` ``[V]``.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn.functional import linear

from privsweep.gradient_inversion.engine.low_rank import Matrices
from privsweep.gradient_inversion.engine.rule_activation import Rule

_COPIED = 2**17  # entries of a victim up to which all are added in float64


class WeightRule(Rule):
    """A layer with a weight and a bias. ``observe`` comes before ``backward``, ``steer`` before the tangents."""

    victims: int

    @abstractmethod
    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        """Take the gradient with respect to the output; return ``<e, e>`` and, if asked, ``<e, G>``, ``[V]``."""

    @abstractmethod
    def steer(self, p: Tensor, q: Tensor | None) -> None:
        """Fix the direction v."""

    @abstractmethod
    def start_tangent(self) -> Tensor:
        """``v a``: the tangent that this layer adds to its output."""

    @abstractmethod
    def take(self, rows: Tensor) -> WeightRule:
        """The rule for the victims ``rows``."""


class Dense(WeightRule):
    """A layer whose residual is formed, victim by victim, as one matrix ``[V, outputs, inputs]`` and a bias.

    Subclasses lay activations out as matrices: inputs ``[V, n, inputs]``, outputs ``[V, outputs, n]``. With
    ``kept`` the residual counts only where the captured gradient is not zero.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, target: Tensor, target_bias: Tensor | None, kept: bool = False
    ):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias, self.kept = target, target_bias, kept
        self.victims = len(target)

    a: Tensor  # inputs as matrices
    d: Tensor  # output gradients as matrices

    def _residual(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        """``d`` ``[V, outputs, n]``; the result is that of ``observe``."""
        self.d = d
        return self._compare(torch.baddbmm(self.target, d, self.a, beta=-1), d, 2, overlap)

    def _compare(
        self, e: Tensor, d: Tensor, over: int | tuple[int, ...], overlap: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Take the weight's residual ``e``, and the bias's, whose gradient is ``d`` summed ``over`` dimensions."""
        self.e = self._counted(e, self.target)
        r, h = inner_products(self.e, self.target, overlap)
        if self.target_bias is not None:
            self.e_bias = self._counted(d.sum(over) - self.target_bias, self.target_bias)
            more_r, more_h = inner_products(self.e_bias, self.target_bias, overlap)
            r, h = r + more_r, None if h is None or more_h is None else h + more_h
        return r, h

    def _counted(self, e: Tensor, goal: Tensor) -> Tensor:
        return e.masked_fill_(goal == 0, 0) if self.kept else e

    def steer(self, p: Tensor, q: Tensor | None) -> None:
        self.v = combine(p, q, self.e, self.target)
        if self.target_bias is not None:
            self.v_bias = combine(p, q, self.e_bias, self.target_bias)

    def _tangent(self) -> Tensor:
        """``v a`` as ``[V, outputs, n]``."""
        if self.target_bias is None:
            return torch.bmm(self.v, self.a.mT)
        return torch.baddbmm(self.v_bias[:, :, None], self.v, self.a.mT)

    def _goals(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.target[rows], None if self.target_bias is None else self.target_bias[rows]


class DenseLinear(Dense):
    """``nn.Linear`` on ``[V * B, inputs]``."""

    def forward(self, a: Tensor) -> Tensor:
        self.a = a.reshape(self.victims, -1, a.shape[1])
        return linear(a, self.weight, self.bias)

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        return self._residual(d.view(self.victims, -1, d.shape[1]).mT, overlap)

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def start_tangent(self) -> Tensor:
        return self._tangent().mT.reshape(-1, self.weight.shape[0])

    def tangent_forward(self, t: Tensor) -> Tensor:
        return torch.addmm(self.start_tangent(), t, self.weight.mT)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return torch.addmm(torch.bmm(self.d.mT, self.v).flatten(0, 1), dt, self.weight)

    def take(self, rows: Tensor) -> DenseLinear:
        return DenseLinear(self.weight, self.bias, *self._goals(rows), self.kept)


class Gram(WeightRule):
    """A layer without any matrix of the weight's size a victim but the captured gradient itself.

    A gradient is the sum of the outer products of output gradient and input over images and places, so inner
    products of residuals are small Gram matrices, and those with G need only ``G a`` and ``G^T d``. They cancel near
    zero: they are formed in float64. Subclasses lay activations out: inputs ``[V, n, inputs]``, outputs
    ``[V, n, outputs]``.
    """

    a: Tensor  # inputs, float64

    def __init__(self, weight: Tensor, bias: Tensor | None, target: Matrices, target_bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias = target, target_bias
        self.victims = len(target)

    def _residual(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        """``d`` ``[V, n, outputs]``, float64; the result is that of ``observe``."""
        self.d = d
        self.gram_a, self.gram_d = self.a @ self.a.mT, d @ d.mT
        self.goal_a, self.goal_d = self.target.through(self.a), self.target.back(d)
        product = (self.goal_a * d).sum((1, 2))  # <g, G>
        # rounding must not make a squared norm negative
        r = ((self.gram_a * self.gram_d).sum((1, 2)) - 2 * product + self.target.norm2).clamp(min=0)
        h = product - self.target.norm2
        if self.target_bias is not None:
            self.e_bias = d.sum(1) - self.target_bias
            r = r + self.e_bias.square().sum(1)
            h = h + (self.e_bias * self.target_bias).sum(1)
        return r, h if overlap else None

    v_a: Tensor  # v a, [V, n, outputs]
    v_d: Tensor  # v^T d, [V, n, inputs]

    def steer(self, p: Tensor, q: Tensor | None) -> None:
        dtype = self.weight.dtype
        v_a = combine(p, q, self.gram_a @ self.d - self.goal_a, self.goal_a)
        v_d = combine(p, q, self.gram_d @ self.a - self.goal_d, self.goal_d)
        if self.target_bias is not None:
            v_a = v_a + combine(p, q, self.e_bias, self.target_bias)[:, None]
        self.v_a, self.v_d = v_a.to(dtype), v_d.to(dtype)

    def _goals(self, rows: Tensor) -> tuple[Matrices, Tensor | None]:
        return self.target.take(rows), None if self.target_bias is None else self.target_bias[rows]


class GramLinear(Gram):
    """``nn.Linear`` on ``[V * B, inputs]``."""

    def forward(self, a: Tensor) -> Tensor:
        self.a = a.double().view(self.victims, -1, a.shape[1])
        return linear(a, self.weight, self.bias)

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        return self._residual(d.double().view(self.victims, -1, d.shape[1]), overlap)

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def start_tangent(self) -> Tensor:
        return self.v_a.flatten(0, 1)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return torch.addmm(self.v_a.flatten(0, 1), t, self.weight.mT)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return torch.addmm(self.v_d.flatten(0, 1), dt, self.weight)

    def take(self, rows: Tensor) -> GramLinear:
        return GramLinear(self.weight, self.bias, *self._goals(rows))


def squared_norm(goal: Tensor) -> Tensor:
    """Of every victim's ``[V, ...]``, float64 ``[V]``. Large ones are not copied: only their rows add in float64."""
    if goal.dim() < 3 or goal[0].numel() <= _COPIED:
        return torch.linalg.vector_norm(goal.flatten(1), dim=1, dtype=torch.float64).square()
    return torch.linalg.vector_norm(goal.flatten(2), dim=2).double().square().sum(1)


def inner_products(e: Tensor, goal: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
    """``<e, e>`` and, if asked, ``<e, G>``, ``[V]``.

    With the overlap ``|g|^2`` is asked for too, a difference of these sums, which float64 keeps when g is small.
    """
    e, goal = e.flatten(1), goal.flatten(1)
    if not overlap:
        return e.square().sum(1), None
    return squared_norm(e), (e * goal).sum(1, dtype=torch.float64)


def combine(p: Tensor, q: Tensor | None, e: Tensor, goal: Tensor) -> Tensor:
    """``p e + q G`` with a factor a victim."""
    shape = (-1, *[1] * (e.dim() - 1))
    v = p.view(shape) * e
    return v if q is None else v + q.view(shape) * goal
