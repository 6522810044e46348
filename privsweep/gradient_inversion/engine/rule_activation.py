"""How layers without captured gradients take part in the four sweeps of gradient matching.

The sweeps are forward, backward, tangent forward and tangent backward (see ``tangent_matching``). A rule
keeps what later sweeps need of the sweep before. Activations are ``[V * B, ...]``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, linear, softplus


class Rule(ABC):
    """One layer. The sweeps come in the order of the methods."""

    @abstractmethod
    def forward(self, a: Tensor) -> Tensor: ...

    @abstractmethod
    def backward(self, d: Tensor) -> Tensor:
        """The gradient of the loss with respect to the layer's output to that with respect to its input."""
        ...

    @abstractmethod
    def tangent_forward(self, t: Tensor) -> Tensor: ...

    @abstractmethod
    def tangent_backward(self, dt: Tensor) -> Tensor: ...


class Linear(Rule):
    """A layer that is linear in its input: tangents pass like values."""

    def tangent_forward(self, t: Tensor) -> Tensor:
        return self.forward(t)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.backward(dt)


class Flatten(Linear):
    def forward(self, a: Tensor) -> Tensor:
        self.shape = a.shape
        return a.flatten(1)

    def backward(self, d: Tensor) -> Tensor:
        return d.view(self.shape)


class AveragePool(Linear):
    def __init__(self, layer: nn.AvgPool2d):
        self.window = (_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding))
        self.rest = (layer.ceil_mode, layer.count_include_pad, layer.divisor_override)

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        return avg_pool2d(a, *self.window, *self.rest)

    def backward(self, d: Tensor) -> Tensor:
        return torch.ops.aten.avg_pool2d_backward(d, self.a, *self.window, *self.rest)


class GlobalAveragePool(Linear):
    def forward(self, a: Tensor) -> Tensor:
        self.shape = a.shape
        return a.mean((2, 3), keepdim=True)

    def backward(self, d: Tensor) -> Tensor:
        return (d / (self.shape[2] * self.shape[3])).expand(self.shape)


class MaxPool(Rule):
    """The maximum's place is constant almost everywhere, so its tangent is the tangent at that place."""

    def __init__(self, layer: nn.MaxPool2d):
        self.window = (_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation))
        self.ceil_mode = layer.ceil_mode

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        out, self.place = torch.ops.aten.max_pool2d_with_indices(a, *self.window, self.ceil_mode)
        return out

    def backward(self, d: Tensor) -> Tensor:
        return torch.ops.aten.max_pool2d_with_indices_backward(d, self.a, *self.window, self.ceil_mode, self.place)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return t.flatten(2).gather(2, self.place.flatten(2)).view(self.place.shape)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.backward(dt)


class Activation(Rule):
    """An elementwise function: its first derivative acts on everything, its second couples d with t."""

    @abstractmethod
    def forward(self, a: Tensor) -> Tensor:
        """Sets ``slope``, the first derivative."""

    @abstractmethod
    def bend(self) -> Tensor | None:
        """The second derivative, or None where it is zero almost everywhere."""

    slope: Tensor

    def backward(self, d: Tensor) -> Tensor:
        self.d = d
        return d * self.slope

    def tangent_forward(self, t: Tensor) -> Tensor:
        self.t = t
        return t * self.slope

    def tangent_backward(self, dt: Tensor) -> Tensor:
        bend = self.bend()
        dt = dt * self.slope
        return dt if bend is None else dt.addcmul_(self.d * self.t, bend)


class Sigmoid(Activation):
    def forward(self, a: Tensor) -> Tensor:
        self.out = torch.sigmoid(a)
        self.slope = self.out * (1 - self.out)
        return self.out

    def bend(self) -> Tensor:
        return self.slope * (1 - 2 * self.out)


class Tanh(Activation):
    def forward(self, a: Tensor) -> Tensor:
        self.out = torch.tanh(a)
        self.slope = 1 - self.out.square()
        return self.out

    def bend(self) -> Tensor:
        return -2 * self.out * self.slope


class ReLU(Activation):
    def forward(self, a: Tensor) -> Tensor:
        self.slope = (a > 0).to(a.dtype)
        return a * self.slope

    def bend(self) -> None:
        return None


class Sampling(Rule):
    """A code drawn from its mean and raw deviation, ``mu + softplus(raw) * noise``; ``[n, 2k]`` to ``[n, k]``.

    ``noise`` is ``[n, k]``. The noise moves the loss too: ``by_noise``, after the sweeps, is the derivative of the
    distance with respect to it.
    """

    noise: Tensor
    by_noise: Tensor

    def forward(self, a: Tensor) -> Tensor:
        mu, raw = a.chunk(2, 1)
        self.deviation, self.slope = softplus(raw), torch.sigmoid(raw)
        return mu + self.deviation * self.noise

    def backward(self, d: Tensor) -> Tensor:
        self.d = d
        return torch.cat((d, d * self.noise * self.slope), 1)

    def tangent_forward(self, t: Tensor) -> Tensor:
        by_mean, self.t = t.chunk(2, 1)
        return by_mean + self.t * self.noise * self.slope

    def tangent_backward(self, dt: Tensor) -> Tensor:
        self.by_noise = dt * self.deviation + self.d * self.slope * self.t
        bend = self.slope * (1 - self.slope)
        return torch.cat((dt, self.noise * (dt * self.slope + self.d * self.t * bend)), 1)


class UnmatchedLinear(Rule):
    """``nn.Linear`` whose captured gradient is left out of the distance."""

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


def plain_rule(layer: nn.Module) -> Rule | None:
    """The rule of a layer without parameters, None where there is none."""
    match layer:
        case nn.Sigmoid():
            return Sigmoid()
        case nn.Tanh():
            return Tanh()
        case nn.ReLU():
            return ReLU()
        case nn.Flatten() if (layer.start_dim, layer.end_dim) == (1, -1):
            return Flatten()
        case nn.AvgPool2d():
            return AveragePool(layer)
        case nn.AdaptiveAvgPool2d() if _pair(layer.output_size) == [1, 1]:
            return GlobalAveragePool()
        case nn.MaxPool2d() if not layer.return_indices:
            return MaxPool(layer)
    return None


def _pair(size: Any) -> list[int]:
    """One number or two, as two."""
    return list(size) if isinstance(size, tuple | list) else [size, size]
