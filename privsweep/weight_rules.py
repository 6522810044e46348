"""How layers with parameters take part in gradient matching: they hold the captured gradient's share.

Per victim, ``g`` is the gradient of the loss, ``G`` the captured one, ``e = g - G`` the residual. Layers
report ``<e, e>`` and ``<e, G>`` and then act with the constant direction ``v = p e + q G`` as if it were
their weight. Shapes: activations ``[V * B, ...]``, ``p`` and ``q`` ``[V]``.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad

from privsweep.layer_rules import Rule
from privsweep.low_rank import Factors

Steer = tuple[Tensor, Tensor | None]  # p and q; None for a q that is zero
_NHWC = torch.channels_last


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

    Subclasses bring activations to rows: inputs ``[V, n, inputs]``, outputs ``[V, n, outputs]``.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, target: Tensor, target_bias: Tensor | None):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias = target, target_bias
        self.victims = len(target)

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        self.rows_out = self.rows_of_output(d)
        self.e = torch.baddbmm(self.target, self.rows_out.mT, self.rows_in, beta=-1)
        flat, goal = self.e.flatten(1), self.target.flatten(1)
        r, h = flat.square().sum(1), (flat * goal).sum(1) if overlap else None
        if self.target_bias is not None:
            self.e_bias = self.rows_out.sum(1) - self.target_bias
            r = r + self.e_bias.square().sum(1)
            h = None if h is None else h + (self.e_bias * self.target_bias).sum(1)
        return r, h

    def steer(self, p: Tensor, q: Tensor | None) -> None:
        self.v = _combine(p, q, self.e, self.target)
        if self.target_bias is not None:
            self.v_bias = _combine(p, q, self.e_bias, self.target_bias)

    def tangent_rows(self) -> Tensor:
        """``v a`` as rows ``[V, n, outputs]``."""
        if self.target_bias is None:
            return torch.bmm(self.rows_in, self.v.mT)
        return torch.baddbmm(self.v_bias[:, None], self.rows_in, self.v.mT)

    def take(self, rows: Tensor) -> Dense:
        bias = None if self.target_bias is None else self.target_bias[rows]
        return self.like(self.target[rows], bias)

    rows_in: Tensor

    @abstractmethod
    def rows_of_output(self, d: Tensor) -> Tensor: ...

    @abstractmethod
    def like(self, target: Tensor, target_bias: Tensor | None) -> Dense:
        """The same layer with another target."""


class DenseLinear(Dense):
    """``nn.Linear`` on ``[V * B, inputs]``."""

    def forward(self, a: Tensor) -> Tensor:
        self.rows_in = a.view(self.victims, -1, a.shape[1])
        return nn.functional.linear(a, self.weight, self.bias)

    def rows_of_output(self, d: Tensor) -> Tensor:
        return d.view(self.victims, -1, d.shape[1])

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def start_tangent(self) -> Tensor:
        return self.tangent_rows().flatten(0, 1)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return torch.addmm(self.start_tangent(), t, self.weight.mT)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return torch.addmm(torch.bmm(self.rows_out, self.v).flatten(0, 1), dt, self.weight)

    def like(self, target: Tensor, target_bias: Tensor | None) -> DenseLinear:
        return DenseLinear(self.weight, self.bias, target, target_bias)


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
        return nn.functional.linear(a, self.weight, self.bias)

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


class Conv(Dense):
    """``nn.Conv2d`` as a product with image patches; activations lie channels last, so patches are rows.

    The weight ``[O, C, kh, kw]`` as a matrix has columns in the order ``kh, kw, C``.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        target_bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
    ):
        super().__init__(weight.contiguous(memory_format=_NHWC), bias, target, target_bias)
        self.stride, self.padding = stride, padding

    def forward(self, a: Tensor) -> Tensor:
        a = a.contiguous(memory_format=_NHWC)
        self.a = a
        out = conv2d(a, self.weight, self.bias, self.stride, self.padding)
        self.output = out.shape
        self.rows_in = self._patches(a)
        return out

    def _patches(self, a: Tensor) -> Tensor:
        (kh, kw), (sh, sw), (ph, pw) = self.weight.shape[2:], self.stride, self.padding
        framed = pad(a.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        windows = framed.unfold(1, kh, sh).unfold(2, kw, sw)  # [V * B, h, w, C, kh, kw]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(self.victims, -1, kh * kw * a.shape[1])

    def rows_of_output(self, d: Tensor) -> Tensor:
        return d.permute(0, 2, 3, 1).reshape(self.victims, -1, d.shape[1])

    def backward(self, d: Tensor) -> Tensor:
        return torch.ops.aten.convolution_backward(
            d, self.a, self.weight, None, self.stride, self.padding, [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]

    def start_tangent(self) -> Tensor:
        n, channels, height, width = self.output
        return self.tangent_rows().view(n, height, width, channels).permute(0, 3, 1, 2)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return self.start_tangent() + conv2d(t, self.weight, None, self.stride, self.padding)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.backward(dt) + self._transposed()

    def _transposed(self) -> Tensor:
        """``v^T d``: a convolution with as many groups as victims."""
        _, inputs, height, width = self.a.shape
        _, outputs, h, w = self.output
        kh, kw = self.weight.shape[2:]
        kernels = self.v.view(-1, kh, kw, inputs).permute(0, 3, 1, 2)
        d = self.rows_out.view(self.victims, -1, h, w, outputs).permute(1, 0, 4, 2, 3).flatten(1, 2)
        rest = [
            size - ((out - 1) * s - 2 * p + k)
            for size, out, s, p, k in zip((height, width), (h, w), self.stride, self.padding, (kh, kw), strict=True)
        ]
        back = conv_transpose2d(d, kernels, None, self.stride, self.padding, rest, self.victims)
        return back.view(-1, self.victims, inputs, height, width).transpose(0, 1).reshape(self.a.shape)

    def like(self, target: Tensor, target_bias: Tensor | None) -> Conv:
        return Conv(self.weight, self.bias, target, target_bias, self.stride, self.padding)


def _combine(p: Tensor, q: Tensor | None, e: Tensor, goal: Tensor) -> Tensor:
    """``p e + q G`` with a factor a victim."""
    shape = (-1, *[1] * (e.dim() - 1))
    v = p.view(shape) * e
    return v if q is None else v + q.view(shape) * goal
