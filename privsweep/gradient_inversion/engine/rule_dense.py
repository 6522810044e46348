"""How layers with weights take part in gradient matching, and which rule a linear layer gets.

Per victim, ``g`` is the gradient of the loss with respect to the layer's parameters, ``G`` the captured one (the
target), ``e = g - G`` the residual. Layers report ``<e, e>`` and ``<e, G>`` and then act with the constant direction
``v = residual_factor e + target_factor G`` as if it were their weight. The factors are ``[V]``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import linear

from privsweep.gradient_inversion.engine.distance import Products, residual_products
from privsweep.gradient_inversion.engine.low_rank import Matrices, low_rank_or_whole
from privsweep.gradient_inversion.engine.rule_activation import Rule
from privsweep.gradient_inversion.engine.rule_unmatched import UnmatchedLinear
from privsweep.interface.data import Tensors

# Entries of a linear layer's weight up to which its residual is formed. On one CPU core Gram matrices are 0.9 times as
# fast at 2**12 with 8 victims and 1.6 times with 64; 1.0 and 2.3 times at 2**13; 2.8 and 35 times at 2**16
# (scripts/thresholds.py). Not measured on a GPU, where it may lie elsewhere.
SMALL = 2**12


class WeightRule(Rule):
    """A layer with a weight and a bias.

    ``compare_with_target`` is called before ``backward``, ``set_direction`` before the tangent sweeps.
    """

    victims: int

    @abstractmethod
    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        """Take the gradient with respect to the output; return what ``<e, e>`` and, if asked, ``<e, G>`` sum up."""

    @abstractmethod
    def set_direction(self, residual_factor: Tensor, target_factor: Tensor | None) -> None:
        """Fix the direction v; ``target_factor`` None is zero."""

    @abstractmethod
    def direction_times_input(self) -> Tensor:
        """``v a``: what the movement of this layer's weight along v adds to the tangent of its output."""

    @abstractmethod
    def take(self, rows: Tensor) -> WeightRule:
        """The rule for the victims ``rows``."""


class Dense(WeightRule):
    """A layer whose residual is formed, victim by victim, as one matrix ``[V, outputs, inputs]`` and a bias.

    Subclasses lay activations out as matrices: inputs ``[V, n, inputs]``, outputs ``[V, outputs, n]``. With
    ``only_nonzero`` the residual counts only where the captured gradient is not zero.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        target_bias: Tensor | None,
        only_nonzero: bool = False,
    ):
        self.weight, self.bias, self.only_nonzero = weight, bias, only_nonzero
        parts = [target.flatten(1)] if target_bias is None else [target.flatten(1), target_bias]
        self.size, self.whole_target = target[0].shape, torch.cat(parts, 1)
        self.target, self.target_bias = self._parts(self.whole_target)
        self.victims = len(target)

    a: Tensor  # inputs as matrices
    d: Tensor  # output gradients as matrices

    def _parts(self, whole: Tensor) -> tuple[Tensor, Tensor | None]:
        """The weight's entries ``[V, outputs, inputs]`` and the bias's ``[V, outputs]``, which lie behind them."""
        count = self.size.numel()
        weight = whole[:, :count].unflatten(1, self.size)
        return weight, whole[:, count:] if count < whole.shape[1] else None

    def _residual(self, d: Tensor, with_dot: bool) -> Products:
        """``d`` ``[V, outputs, n]``; the result is that of ``compare_with_target``."""
        self.d = d
        return self._compare(lambda out: torch.baddbmm(self.target, d, self.a, beta=-1, out=out), d, 2, with_dot)

    def _compare(
        self, into: Callable[[Tensor], object], d: Tensor, over: int | tuple[int, ...], with_dot: bool
    ) -> Products:
        """Take the weight's residual ``into`` its place, and the bias's, whose gradient is ``d`` summed ``over``."""
        self.residual = torch.empty_like(self.whole_target)
        weight, bias = self._parts(self.residual)
        into(weight)
        if bias is not None and self.target_bias is not None:
            torch.sum(d, over, out=bias).sub_(self.target_bias)
        if self.only_nonzero:
            self.residual.masked_fill_(self.whole_target == 0, 0)
        return residual_products(self.residual, self.whole_target, with_dot)

    def set_direction(self, residual_factor: Tensor, target_factor: Tensor | None) -> None:
        self.v, self.v_bias = self._parts(direction(residual_factor, target_factor, self.residual, self.whole_target))

    def _tangent(self) -> Tensor:
        """``v a`` as ``[V, outputs, n]``."""
        if self.v_bias is None:
            return torch.bmm(self.v, self.a.mT)
        return torch.baddbmm(self.v_bias[:, :, None], self.v, self.a.mT)

    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        return self._parts(self.whole_target[rows])


class DenseLinear(Dense):
    """``nn.Linear`` on ``[V * B, inputs]``."""

    def forward(self, a: Tensor) -> Tensor:
        self.a = a.reshape(self.victims, -1, a.shape[1])
        return linear(a, self.weight, self.bias)

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        return self._residual(d.view(self.victims, -1, d.shape[1]).mT, with_dot)

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def direction_times_input(self) -> Tensor:
        return self._tangent().mT.reshape(-1, self.weight.shape[0])

    def tangent_forward(self, t: Tensor) -> Tensor:
        return torch.addmm(self.direction_times_input(), t, self.weight.mT)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return torch.addmm(torch.bmm(self.d.mT, self.v).flatten(0, 1), dt, self.weight)

    def take(self, rows: Tensor) -> DenseLinear:
        return DenseLinear(self.weight, self.bias, *self._targets(rows), self.only_nonzero)


class Gram(WeightRule):
    """A layer that keeps no matrix of the weight's size for a victim, except the captured gradient itself.

    A gradient is the sum of the outer products of output gradient and input over images and positions, so inner
    products of residuals follow from small Gram matrices, and those with G need only ``G a`` and ``G^T d``. They
    cancel near zero and are therefore formed in float64. Subclasses lay activations out as inputs
    ``[V, n, inputs]`` and outputs ``[V, n, outputs]``.
    """

    a: Tensor  # inputs, float64

    def __init__(self, weight: Tensor, bias: Tensor | None, target: Matrices, target_bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias = target, target_bias
        self.victims = len(target)

    def _residual(self, d: Tensor, with_dot: bool) -> Products:
        """``d`` ``[V, n, outputs]``, float64; the result is that of ``compare_with_target``."""
        self.d = d
        self.gram_a, self.gram_d = self.a @ self.a.mT, d @ d.mT
        self.target_a, self.target_d = self.target.products(self.a, d)
        product = (self.target_a * d).sum((1, 2))  # <g, G>
        # rounding must not make a squared norm negative
        squared = ((self.gram_a * self.gram_d).sum((1, 2)) - 2 * product + self.target.squared_norm).clamp(min=0)
        squares, dots = [squared], [product - self.target.squared_norm]
        if self.target_bias is not None:
            self.residual_bias = d.sum(1) - self.target_bias
            squares.append(self.residual_bias.square().sum(1))
            dots.append((self.residual_bias * self.target_bias).sum(1))
        return squares, dots if with_dot else []

    v_a: Tensor  # v a, [V, n, outputs]
    v_d: Tensor  # v^T d, [V, n, inputs]

    def set_direction(self, residual_factor: Tensor, target_factor: Tensor | None) -> None:
        dtype = self.weight.dtype
        v_a = direction(residual_factor, target_factor, self.gram_a @ self.d - self.target_a, self.target_a)
        v_d = direction(residual_factor, target_factor, self.gram_d @ self.a - self.target_d, self.target_d)
        if self.target_bias is not None:
            v_a = v_a + direction(residual_factor, target_factor, self.residual_bias, self.target_bias)[:, None]
        self.v_a, self.v_d = v_a.to(dtype), v_d.to(dtype)

    def _targets(self, rows: Tensor) -> tuple[Matrices, Tensor | None]:
        return self.target.take(rows), None if self.target_bias is None else self.target_bias[rows]


class GramLinear(Gram):
    """``nn.Linear`` on ``[V * B, inputs]``."""

    def forward(self, a: Tensor) -> Tensor:
        self.a = a.double().view(self.victims, -1, a.shape[1])
        return linear(a, self.weight, self.bias)

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        return self._residual(d.double().view(self.victims, -1, d.shape[1]), with_dot)

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def direction_times_input(self) -> Tensor:
        return self.v_a.flatten(0, 1)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return torch.addmm(self.v_a.flatten(0, 1), t, self.weight.mT)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return torch.addmm(self.v_d.flatten(0, 1), dt, self.weight)

    def take(self, rows: Tensor) -> GramLinear:
        return GramLinear(self.weight, self.bias, *self._targets(rows))


def direction(residual_factor: Tensor, target_factor: Tensor | None, residual: Tensor, target: Tensor) -> Tensor:
    """``residual_factor e + target_factor G``."""
    shape = (-1, *[1] * (residual.dim() - 1))
    v = residual_factor.view(shape) * residual
    return v if target_factor is None else v.addcmul_(target_factor.view(shape), target)


def linear_rule(name: str, weights: Tensors, target: Tensors, images: int, only_nonzero: bool) -> Rule | None:
    """The fastest rule for the linear layer ``name``, for ``images`` in a victim's batch.

    None where the gradient of its bias alone is matched.
    """
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if f"{name}.weight" not in target:
        return None if f"{name}.bias" in target else UnmatchedLinear(weight, bias)
    captured, captured_bias = target[f"{name}.weight"], target.get(f"{name}.bias")
    if only_nonzero or weight.numel() <= SMALL:
        return DenseLinear(weight, bias, captured, captured_bias, only_nonzero)
    return GramLinear(weight, bias, low_rank_or_whole(captured, images), captured_bias)
