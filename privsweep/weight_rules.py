"""How layers with parameters take part in gradient matching: they hold the captured gradient's share.

Per victim, ``g`` is the gradient of the loss, ``G`` the captured one, ``e = g - G`` the residual. Layers
report ``<e, e>`` and ``<e, G>`` and then act with the constant direction ``v = p e + q G`` as if it were
their weight. Shapes: activations ``[V * B, ...]``, ``p`` and ``q`` ``[V]``.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, fold, linear, pad

from privsweep.layer_rules import Rule
from privsweep.low_rank import Factors


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

    Subclasses lay activations out as matrices: inputs ``[V, n, inputs]``, outputs ``[V, outputs, n]``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, target: Tensor, target_bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias = target, target_bias
        self.victims = len(target)

    a: Tensor  # inputs as matrices
    d: Tensor  # output gradients as matrices

    def _residual(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        """``d`` ``[V, outputs, n]``; the result is that of ``observe``."""
        self.d = d
        self.e = torch.baddbmm(self.target, d, self.a, beta=-1)
        flat = self.e.flatten(1)
        r, h = flat.square().sum(1), (flat * self.target.flatten(1)).sum(1) if overlap else None
        if self.target_bias is not None:
            self.e_bias = d.sum(2) - self.target_bias
            r = r + self.e_bias.square().sum(1)
            h = None if h is None else h + (self.e_bias * self.target_bias).sum(1)
        return r, h

    def steer(self, p: Tensor, q: Tensor | None) -> None:
        self.v = _combine(p, q, self.e, self.target)
        if self.target_bias is not None:
            self.v_bias = _combine(p, q, self.e_bias, self.target_bias)

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
        return DenseLinear(self.weight, self.bias, *self._goals(rows))


class LowRankLinear(WeightRule):
    """``nn.Linear`` whose captured gradients are exactly of low rank; no matrix of the weight's size is formed.

    A gradient is the sum of the images' outer products of output gradient and input, so inner products of
    residuals are small Gram matrices. These cancel near zero: they are formed in float64.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, target: Factors, target_bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias = target, target_bias
        self.victims = len(target.left)

    def forward(self, a: Tensor) -> Tensor:
        self.a = a.double().view(self.victims, -1, a.shape[1])
        return linear(a, self.weight, self.bias)

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        self.d = d.double().view(self.victims, -1, d.shape[1])
        goal = self.target
        self.gram_a, self.gram_d = self.a @ self.a.mT, self.d @ self.d.mT
        self.a_right, self.d_left = self.a @ goal.right, self.d @ goal.left
        product = (self.a_right * self.d_left).sum((1, 2))  # <g, G>
        r = (self.gram_a * self.gram_d).sum((1, 2)) - 2 * product + goal.norm2
        h = product - goal.norm2
        if self.target_bias is not None:
            self.e_bias = self.d.sum(1) - self.target_bias
            r = r + self.e_bias.square().sum(1)
            h = h + (self.e_bias * self.target_bias).sum(1)
        # rounding must not make a distance negative
        return r.clamp(min=0).to(d.dtype), h.to(d.dtype) if overlap else None

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def steer(self, p: Tensor, q: Tensor | None) -> None:
        goal, dtype = self.target, self.weight.dtype
        goal_a, goal_d = self.a_right @ goal.left.mT, self.d_left @ goal.right.mT
        v_a = _combine(p, q, self.gram_a @ self.d - goal_a, goal_a)
        v_d = _combine(p, q, self.gram_d @ self.a - goal_d, goal_d)
        if self.target_bias is not None:
            v_a = v_a + _combine(p, q, self.e_bias, self.target_bias)[:, None]
        self.v_a, self.v_d = (t.to(dtype).flatten(0, 1) for t in (v_a, v_d))

    def start_tangent(self) -> Tensor:
        return self.v_a

    def tangent_forward(self, t: Tensor) -> Tensor:
        return torch.addmm(self.v_a, t, self.weight.mT)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return torch.addmm(self.v_d, dt, self.weight)

    def take(self, rows: Tensor) -> LowRankLinear:
        bias = None if self.target_bias is None else self.target_bias[rows]
        return LowRankLinear(self.weight, self.bias, self.target.take(rows), bias)


@dataclass(frozen=True)
class Sliding:
    """How a convolution's window moves."""

    stride: tuple[int, int]
    padding: tuple[int, int]


class Conv(Dense):
    """``nn.Conv2d`` as a matrix product with image patches, one a row.

    A patch, and so a row of the residual, is ordered ``kh, kw, C``, which gathers the fastest; columns that
    are to be summed back into an image have PyTorch's order ``C, kh, kw``.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, target: Tensor, target_bias: Tensor | None, sliding: Sliding
    ):
        super().__init__(weight, bias, target, target_bias)
        self.sliding = sliding

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        out = conv2d(a, self.weight, self.bias, self.sliding.stride, self.sliding.padding)
        self.output = out.shape
        self.a = self._patches(a)
        return out

    def _patches(self, a: Tensor) -> Tensor:
        (kh, kw), (sh, sw), (ph, pw) = self.weight.shape[2:], self.sliding.stride, self.sliding.padding
        framed = pad(a.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        windows = framed.unfold(1, kh, sh).unfold(2, kw, sw)  # [V * B, h, w, C, kh, kw]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(self.victims, -1, kh * kw * a.shape[1])

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        by_victim = d.reshape(self.victims, -1, d.shape[1], d[0, 0].numel()).transpose(1, 2)
        return self._residual(by_victim.flatten(2), overlap)

    def backward(self, d: Tensor) -> Tensor:
        stride, padding = self.sliding.stride, self.sliding.padding
        return torch.ops.aten.convolution_backward(
            d, self.input, self.weight, None, stride, padding, [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]

    def start_tangent(self) -> Tensor:
        n, _, height, width = self.output
        by_victim = self._tangent().unflatten(2, (n // self.victims, height, width))
        return by_victim.transpose(1, 2).reshape(self.output)

    def tangent_forward(self, t: Tensor) -> Tensor:
        moved = conv2d(t, self.weight, None, self.sliding.stride, self.sliding.padding)
        return moved.add_(self.start_tangent())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        _, inputs, height, width = self.input.shape
        outputs, _, kh, kw = self.weight.shape
        v = self.v.view(-1, outputs, kh * kw, inputs).transpose(2, 3).flatten(2)
        along = torch.bmm(v.mT, self.d).unflatten(2, (-1, dt[0, 0].numel())).transpose(1, 2).flatten(0, 1)
        columns = torch.matmul(self.weight.flatten(1).mT, dt.flatten(2)).add_(along)
        return fold(columns, (height, width), (kh, kw), 1, self.sliding.padding, self.sliding.stride)

    def take(self, rows: Tensor) -> Conv:
        return Conv(self.weight, self.bias, *self._goals(rows), self.sliding)


def _combine(p: Tensor, q: Tensor | None, e: Tensor, goal: Tensor) -> Tensor:
    """``p e + q G`` with a factor a victim."""
    shape = (-1, *[1] * (e.dim() - 1))
    v = p.view(shape) * e
    return v if q is None else v + q.view(shape) * goal
