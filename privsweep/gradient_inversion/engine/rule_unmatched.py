"""Layers with weights whose captured gradients are left out of the distance: values and tangents pass through."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import linear

from privsweep.gradient_inversion.engine.rule_activation import Rule
from privsweep.gradient_inversion.engine.window import Window


class UnmatchedLinear(Rule):
    """``nn.Linear`` on ``[V * B, inputs]``."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        self.weight, self.bias = weight, bias

    def forward(self, a: Tensor) -> Tensor:
        return linear(a, self.weight, self.bias)

    def backward(self, d: Tensor) -> Tensor:
        return d @ self.weight

    def tangent_forward(self, t: Tensor) -> Tensor:
        return t @ self.weight.mT

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return dt @ self.weight


class UnmatchedConv(Rule):
    """``nn.Conv2d`` on ``[V * B, C, H, W]``."""

    def __init__(self, weight: Tensor, bias: Tensor | None, window: Window):
        self.weight, self.bias, self.window = weight, bias, window

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        return self.window.convolve(a, self.weight, self.bias)

    def backward(self, d: Tensor) -> Tensor:
        return self.window.pull_back(d, self.input, self.weight)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return self.window.convolve(t, self.weight)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.backward(dt)
