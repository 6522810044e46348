"""How normalisation takes part in gradient matching (see ``rule_dense``).

``y = weight x + bias`` with ``x = N(a)``. Where N subtracts the mean and divides by the deviation of a group of m
numbers, its derivative is the symmetric ``N' t = (t - mean t - x mean(x t)) / deviation``.

Where the moments of ``a`` are wanted to be others (see ``statistics``), the penalty's derivative with respect to ``a``
is linear in ``x`` for each channel, and joins the tangent backward sweep.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from privsweep.gradient_inversion.engine.distance import Products, residual_products
from privsweep.gradient_inversion.engine.rule_dense import WeightRule, direction
from privsweep.gradient_inversion.engine.statistics import Moments, Wanted
from privsweep.interface.data import Tensors


class Reached(NamedTuple):
    """What reached a layer: its moments ``[V, C]``, and ``a = mean + deviation * (x - centre)``.

    ``centre`` and ``deviation`` are ``[V * clients, C]``, of every batch that is normalised by itself.
    """

    moments: Moments
    centre: Tensor
    deviation: Tensor


class Statistics(ABC):
    """N, on ``[V * B, C, H, W]``, or whatever shape an image has at a layer norm."""

    @abstractmethod
    def normalise(self, a: Tensor) -> Tensor: ...

    @abstractmethod
    def derivative_times(self, t: Tensor) -> Tensor:
        """``N' t`` at the point normalised last."""

    @abstractmethod
    def second_derivative(self, u: Tensor, t: Tensor) -> Tensor | None:
        """The derivative of ``<u, N' t>`` with respect to that point; None if it is zero."""

    @abstractmethod
    def reached(self, x: Tensor, victims: int) -> Reached:
        """At the point normalised last, to ``x``; of batch normalisation."""


class Running(Statistics):
    """The running statistics of training: ``mean`` and ``var`` ``[C]``."""

    def __init__(self, mean: Tensor, var: Tensor, eps: float):
        self.mean, self.inverse = (t[:, None, None] for t in (mean, (var + eps).rsqrt()))

    def normalise(self, a: Tensor) -> Tensor:
        return (a - self.mean) * self.inverse

    def derivative_times(self, t: Tensor) -> Tensor:
        return t * self.inverse

    def second_derivative(self, u: Tensor, t: Tensor) -> None:
        return None

    def reached(self, x: Tensor, victims: int) -> Reached:
        variance, centre = torch.var_mean(x.view(victims, -1, *x.shape[1:]), (1, 3, 4), correction=0)
        mean, deviation = self.mean[:, 0, 0], 1 / self.inverse[:, 0, 0]
        moments = Moments(mean + deviation * centre, deviation.square() * variance)
        return Reached(moments, centre, deviation.expand_as(centre))


class Own(Statistics):
    """Those of every channel of a client's batch, or of every one of an image's ``groups`` of channels."""

    def __init__(self, victims: int, groups: int | None, eps: float, clients: int = 1):
        self.victims, self.groups, self.eps, self.clients = victims, groups, eps, clients
        self.over = (1, 3) if groups is None else (2,)

    def _grouped(self, t: Tensor) -> Tensor:
        if self.groups is None:
            return t.reshape(self.victims * self.clients, -1, t.shape[1], t[0, 0].numel())
        return t.reshape(len(t), self.groups, -1)

    def _mean(self, t: Tensor) -> Tensor:
        return t.mean(self.over, keepdim=True)

    def normalise(self, a: Tensor) -> Tensor:
        grouped = self._grouped(a)
        self.var, self.mean = torch.var_mean(grouped, self.over, correction=0, keepdim=True)
        self.inverse = (self.var + self.eps).rsqrt()
        self.x = (grouped - self.mean) * self.inverse
        return self.x.view(a.shape)

    def derivative_times(self, t: Tensor) -> Tensor:
        return self._derivative_times(self._grouped(t)).view(t.shape)

    def _derivative_times(self, t: Tensor) -> Tensor:
        return (t - self._mean(t) - self.x * self._mean(self.x * t)) * self.inverse

    def second_derivative(self, u: Tensor, t: Tensor) -> Tensor:
        shape, u, t = t.shape, self._grouped(u), self._grouped(t)
        by_u, by_t = self._mean(self.x * u), self._mean(self.x * t)
        product = (self._mean(u * t) - self._mean(u) * self._mean(t) - by_u * by_t) * self.inverse
        turned = product * self.x + by_t * self._derivative_times(u) + by_u * self._derivative_times(t)
        return (turned * -self.inverse).view(shape)

    def reached(self, x: Tensor, victims: int) -> Reached:
        mean, variance = (t.view(victims, self.clients, -1).mean(1) for t in (self.mean, self.var))
        deviation = 1 / self.inverse.flatten(1)
        return Reached(Moments(mean, variance), torch.zeros_like(deviation), deviation)


class Normalisation(WeightRule):
    """``nn.BatchNorm2d`` or ``nn.GroupNorm``; the captured gradients are ``[V, C]``.

    ``wanted``: the moments that are, of batch normalisation.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        target_bias: Tensor,
        statistics: Statistics,
        only_nonzero: bool = False,
        wanted: Wanted | None = None,
    ):
        self.weight, self.bias, self.wanted = weight, bias, wanted
        self.target, self.target_bias, self.only_nonzero = target, target_bias, only_nonzero
        self.statistics, self.victims = statistics, len(target)
        self.scale, self.offset = self._spread(weight), self._spread(bias)

    def _spread(self, w: Tensor) -> Tensor:
        """A number a channel, ``[..., C]``, as what maps are multiplied with."""
        return w[..., None, None]

    def forward(self, a: Tensor) -> Tensor:
        self.x = self.statistics.normalise(a)
        if self.wanted is not None:
            self._compare_moments(self.wanted)
        return torch.addcmul(self.offset, self.x, self.scale)

    def _compare_moments(self, wanted: Wanted) -> None:
        """Their penalty ``[V]``, and its derivative with respect to ``a``, ``constant + slope x``."""
        moments, centre, deviation = self.statistics.reached(self.x, self.victims)
        self.penalty, by_mean, by_variance = wanted.penalty(moments)
        count = self.x.numel() // moments.mean.numel()
        clients, each = len(centre) // self.victims, len(self.x) // len(centre)
        by_mean, by_variance = (t.repeat_interleave(clients, 0) for t in (by_mean, by_variance))
        slope = 2 * by_variance * deviation / count
        parts = by_mean / count - slope * centre, slope
        self.constant, self.slope = (t.repeat_interleave(each, 0)[:, :, None, None] for t in parts)

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        self.d = d
        self.residual = self._masked(self._by_victim(d * self.x) - self.target, self.target)
        self.residual_bias = self._masked(self._by_victim(d) - self.target_bias, self.target_bias)
        target = torch.cat((self.target.flatten(1), self.target_bias.flatten(1)), 1)
        residual = torch.cat((self.residual.flatten(1), self.residual_bias.flatten(1)), 1)
        return residual_products(residual, target, with_dot)

    def _by_victim(self, t: Tensor) -> Tensor:
        return t.sum((2, 3)).view(self.victims, -1, t.shape[1]).sum(1)

    def _masked(self, residual: Tensor, target: Tensor) -> Tensor:
        return residual.masked_fill_(target == 0, 0) if self.only_nonzero else residual

    def backward(self, d: Tensor) -> Tensor:
        return self.statistics.derivative_times(d * self.scale)

    def set_direction(self, residual_factor: Tensor, target_factor: Tensor | None) -> None:
        each = len(self.d) // self.victims
        v = direction(residual_factor, target_factor, self.residual, self.target)
        v_bias = direction(residual_factor, target_factor, self.residual_bias, self.target_bias)
        self.v, self.v_bias = (self._spread(t.repeat_interleave(each, 0)) for t in (v, v_bias))

    def direction_times_input(self) -> Tensor:
        self.t = torch.zeros_like(self.x)
        return torch.addcmul(self.v_bias, self.x, self.v)

    def tangent_forward(self, t: Tensor) -> Tensor:
        self.t = t
        return torch.addcmul(self.v_bias, self.x, self.v).addcmul_(self.statistics.derivative_times(t), self.scale)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        moved = self.statistics.derivative_times(torch.addcmul(dt * self.scale, self.d, self.v))
        turned = self.statistics.second_derivative(self.d * self.scale, self.t)
        if turned is not None:
            moved.add_(turned)
        return moved if self.wanted is None else moved.add_(self.constant).addcmul_(self.x, self.slope)

    def take(self, rows: Tensor) -> Normalisation:
        statistics = self.statistics
        if isinstance(statistics, Own):
            statistics = Own(len(rows), statistics.groups, statistics.eps, statistics.clients)
        targets = self.target[rows], self.target_bias[rows]
        wanted = None if self.wanted is None else self.wanted.take(rows)
        return type(self)(self.weight, self.bias, *targets, statistics, self.only_nonzero, wanted)


class LayerNormalisation(Normalisation):
    """``nn.LayerNorm`` over all that an image is there; the captured gradients are of its shape, ``[V, ...]``."""

    def _spread(self, w: Tensor) -> Tensor:
        return w

    def _by_victim(self, t: Tensor) -> Tensor:
        return t.view(self.victims, -1, *t.shape[1:]).sum(1)


def norm_rule(
    name: str,
    layer: nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm,
    weights: Tensors,
    target: Tensors,
    only_nonzero: bool,
    wanted: Wanted | None,
    clients: int = 1,
) -> Normalisation | None:
    """None if the layer has no parameters, or their gradients are not matched."""
    weight, bias = f"{name}.weight", f"{name}.bias"
    if weight not in target or bias not in target:
        return None
    victims = len(target[weight])
    statistics: Statistics
    kind = Normalisation
    if isinstance(layer, nn.LayerNorm):
        kind, statistics = LayerNormalisation, Own(victims, 1, layer.eps)
    elif isinstance(layer, nn.GroupNorm):
        statistics = Own(victims, layer.num_groups, layer.eps)
    elif layer.training or layer.running_mean is None:
        statistics = Own(victims, None, layer.eps, clients)
    else:
        statistics = Running(weights[f"{name}.running_mean"], weights[f"{name}.running_var"], layer.eps)
    return kind(weights[weight], weights[bias], target[weight], target[bias], statistics, only_nonzero, wanted)
