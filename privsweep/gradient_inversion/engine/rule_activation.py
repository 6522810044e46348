"""How layers without captured gradients take part in the four sweeps of gradient matching.

The sweeps are forward, backward, tangent forward and tangent backward (see ``tangent``). A rule keeps what later
sweeps need from earlier ones. Activations are ``[V * B, ...]``; ``a`` is a layer's input, ``d`` the gradient of the
loss with respect to its output, ``t`` and ``dt`` are their tangents.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from privsweep.model.blocks import ACTIVATION_LAYERS
from privsweep.model.stochastic import Reparametrised


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
    """The position of the maximum is constant almost everywhere, so its tangent is the tangent there."""

    def __init__(self, layer: nn.MaxPool2d):
        self.window = (_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), _pair(layer.dilation))
        self.ceil_mode = layer.ceil_mode

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        out, self.position = torch.ops.aten.max_pool2d_with_indices(a, *self.window, self.ceil_mode)
        return out

    def backward(self, d: Tensor) -> Tensor:
        return torch.ops.aten.max_pool2d_with_indices_backward(d, self.a, *self.window, self.ceil_mode, self.position)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return t.flatten(2).gather(2, self.position.flatten(2)).view(self.position.shape)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.backward(dt)


class Activation(Rule):
    """An elementwise function: its first derivative acts on everything, its second couples d with t."""

    @abstractmethod
    def times_derivative(self, x: Tensor) -> Tensor:
        """``x`` times the first derivative, at what ``forward`` was given."""

    @abstractmethod
    def tangent_backward(self, dt: Tensor) -> Tensor:
        """``dt`` times the first derivative, and ``d t`` times the second."""

    def backward(self, d: Tensor) -> Tensor:
        self.d = d
        return self.times_derivative(d)

    def tangent_forward(self, t: Tensor) -> Tensor:
        self.t = t
        return self.times_derivative(t)


class Sigmoid(Activation):
    def forward(self, a: Tensor) -> Tensor:
        self.out = torch.sigmoid(a)
        return self.out

    def times_derivative(self, x: Tensor) -> Tensor:
        return torch.ops.aten.sigmoid_backward(x, self.out)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        coupled = self.d * self.t  # the second derivative is 1 - 2 out times the first
        return self.times_derivative((dt + coupled).addcmul_(coupled, self.out, value=-2))


class Tanh(Activation):
    def forward(self, a: Tensor) -> Tensor:
        self.out = torch.tanh(a)
        return self.out

    def times_derivative(self, x: Tensor) -> Tensor:
        return torch.ops.aten.tanh_backward(x, self.out)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        # the second derivative is -2 out times the first
        return self.times_derivative(torch.addcmul(dt, self.d * self.t, self.out, value=-2))


class ReLU(Activation):
    def forward(self, a: Tensor) -> Tensor:
        self.derivative = (a > 0).to(a.dtype)
        return a * self.derivative

    def times_derivative(self, x: Tensor) -> Tensor:
        return x * self.derivative

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.times_derivative(dt)


class Elementwise(Activation):
    """Another elementwise function, whose two derivatives autograd finds."""

    def __init__(self, layer: nn.Module):
        self.layer = layer

    def forward(self, a: Tensor) -> Tensor:
        with torch.enable_grad():
            a = a.detach().requires_grad_()
            out = self.layer(a)
            (first,) = torch.autograd.grad(out, a, torch.ones_like(out), create_graph=True)
            self.second: Tensor | None = None
            if first.requires_grad:
                (self.second,) = torch.autograd.grad(first, a, torch.ones_like(first), allow_unused=True)
        self.derivative = first.detach()
        return out.detach()

    def times_derivative(self, x: Tensor) -> Tensor:
        return x * self.derivative

    def tangent_backward(self, dt: Tensor) -> Tensor:
        dt = self.times_derivative(dt)
        return dt if self.second is None else dt.addcmul_(self.d * self.t, self.second)


class Reparametrisation(Rule):
    """The sample that a stochastic layer draws, ``mean + deviation(raw) * noise``; ``[n, 2k]`` to ``[n, k]``.

    ``noise`` is ``[n, k]``. The noise moves the loss too: ``by_noise``, after the sweeps, is the derivative of the
    distance with respect to it. The loss has ``term_weight`` times the layer's own term, summed over all rows.
    """

    noise: Tensor
    by_noise: Tensor

    def __init__(self, layer: Reparametrised, term_weight: float = 0.0):
        self.layer, self.term_weight = layer, term_weight

    def forward(self, a: Tensor) -> Tensor:
        mean, raw = a.chunk(2, 1)
        self.deviation = self.layer.deviation(raw)
        self.derivative, self.second = self.layer.deviation_derivatives(raw)
        self.term = self.layer.term_derivatives(a) if self.term_weight else None
        return mean + self.deviation * self.noise

    def backward(self, d: Tensor) -> Tensor:
        self.d = d
        encoded = torch.cat((d, d * self.noise * self.derivative), 1)
        return encoded if self.term is None else encoded.add_(self.term[0], alpha=self.term_weight)

    def tangent_forward(self, t: Tensor) -> Tensor:
        self.encoded = t
        by_mean, self.t = t.chunk(2, 1)
        return by_mean + self.t * self.noise * self.derivative

    def tangent_backward(self, dt: Tensor) -> Tensor:
        self.by_noise = dt * self.deviation + self.d * self.derivative * self.t
        encoded = torch.cat((dt, self.noise * (dt * self.derivative + self.d * self.t * self.second)), 1)
        return encoded if self.term is None else encoded.addcmul_(self.encoded, self.term[1], value=self.term_weight)


def parameterless_rule(layer: nn.Module) -> Rule | None:
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
        case _ if isinstance(layer, ACTIVATION_LAYERS):
            return Elementwise(layer)
    return None


def _pair(size: Any) -> list[int]:
    """One number or two, as two."""
    return list(size) if isinstance(size, tuple | list) else [size, size]
