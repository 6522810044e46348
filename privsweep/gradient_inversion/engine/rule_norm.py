"""How normalisation takes part in gradient matching (see ``weight_rules``).

``y = weight x + bias`` with ``x = N(a)``. Where N subtracts the mean and divides by the deviation of a group of m
numbers, its derivative is the symmetric ``N' t = (t - mean t - x mean(x t)) / deviation``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from privsweep.gradient_inversion.engine.rule_dense import WeightRule, combine, inner_products
from privsweep.interface.data import Tensors


class Statistics(ABC):
    """N, on ``[V * B, C, H, W]``."""

    @abstractmethod
    def normalise(self, a: Tensor) -> Tensor: ...

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """``N' t`` at the point normalised last."""

    @abstractmethod
    def bend(self, u: Tensor, t: Tensor) -> Tensor | None:
        """The derivative of ``<u, N' t>`` with respect to that point; None where it is zero."""


class Running(Statistics):
    """Statistics that were gathered before: ``mean`` and ``var`` ``[C]``."""

    def __init__(self, mean: Tensor, var: Tensor, eps: float):
        self.mean, self.inverse = (t[:, None, None] for t in (mean, (var + eps).rsqrt()))

    def normalise(self, a: Tensor) -> Tensor:
        return (a - self.mean) * self.inverse

    def slope(self, t: Tensor) -> Tensor:
        return t * self.inverse

    def bend(self, u: Tensor, t: Tensor) -> None:
        return None


class Own(Statistics):
    """Those of every channel of a victim's batch, or of every one of an image's ``groups`` of channels."""

    def __init__(self, victims: int, groups: int | None, eps: float):
        self.victims, self.groups, self.eps = victims, groups, eps
        self.over = (1, 3) if groups is None else (2,)

    def _grouped(self, t: Tensor) -> Tensor:
        if self.groups is None:
            return t.reshape(self.victims, -1, t.shape[1], t[0, 0].numel())
        return t.reshape(len(t), self.groups, -1)

    def _mean(self, t: Tensor) -> Tensor:
        return t.mean(self.over, keepdim=True)

    def normalise(self, a: Tensor) -> Tensor:
        grouped = self._grouped(a)
        var, mean = torch.var_mean(grouped, self.over, correction=0, keepdim=True)
        self.inverse = (var + self.eps).rsqrt()
        self.x = (grouped - mean) * self.inverse
        return self.x.view(a.shape)

    def slope(self, t: Tensor) -> Tensor:
        return self._slope(self._grouped(t)).view(t.shape)

    def _slope(self, t: Tensor) -> Tensor:
        return (t - self._mean(t) - self.x * self._mean(self.x * t)) * self.inverse

    def bend(self, u: Tensor, t: Tensor) -> Tensor:
        shape, u, t = t.shape, self._grouped(u), self._grouped(t)
        by_u, by_t = self._mean(self.x * u), self._mean(self.x * t)
        product = (self._mean(u * t) - self._mean(u) * self._mean(t) - by_u * by_t) * self.inverse
        turned = product * self.x + by_t * self._slope(u) + by_u * self._slope(t)
        return (turned * -self.inverse).view(shape)


class Normalisation(WeightRule):
    """``nn.BatchNorm2d`` or ``nn.GroupNorm``; the captured gradients are ``[V, C]``."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor,
        target: Tensor,
        target_bias: Tensor,
        statistics: Statistics,
        kept: bool = False,
    ):
        self.weight, self.bias = weight, bias
        self.target, self.target_bias, self.kept = target, target_bias, kept
        self.statistics, self.victims = statistics, len(target)
        self.scale, self.offset = weight[:, None, None], bias[:, None, None]

    def forward(self, a: Tensor) -> Tensor:
        self.x = self.statistics.normalise(a)
        return torch.addcmul(self.offset, self.x, self.scale)

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        self.d = d
        self.e = self._counted(self._by_victim(d * self.x) - self.target, self.target)
        self.e_bias = self._counted(self._by_victim(d) - self.target_bias, self.target_bias)
        goal = torch.cat((self.target, self.target_bias), 1)
        return inner_products(torch.cat((self.e, self.e_bias), 1), goal, overlap)

    def _by_victim(self, t: Tensor) -> Tensor:
        return t.sum((2, 3)).view(self.victims, -1, t.shape[1]).sum(1)

    def _counted(self, e: Tensor, goal: Tensor) -> Tensor:
        return e.masked_fill_(goal == 0, 0) if self.kept else e

    def backward(self, d: Tensor) -> Tensor:
        return self.statistics.slope(d * self.scale)

    def steer(self, p: Tensor, q: Tensor | None) -> None:
        each = len(self.d) // self.victims
        v, v_bias = combine(p, q, self.e, self.target), combine(p, q, self.e_bias, self.target_bias)
        self.v, self.v_bias = (t.repeat_interleave(each, 0)[:, :, None, None] for t in (v, v_bias))

    def start_tangent(self) -> Tensor:
        self.t = torch.zeros_like(self.x)
        return torch.addcmul(self.v_bias, self.x, self.v)

    def tangent_forward(self, t: Tensor) -> Tensor:
        self.t = t
        return torch.addcmul(self.v_bias, self.x, self.v).addcmul_(self.statistics.slope(t), self.scale)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        moved = self.statistics.slope(torch.addcmul(dt * self.scale, self.d, self.v))
        turned = self.statistics.bend(self.d * self.scale, self.t)
        return moved if turned is None else moved.add_(turned)

    def take(self, rows: Tensor) -> Normalisation:
        statistics = self.statistics
        if isinstance(statistics, Own):
            statistics = Own(len(rows), statistics.groups, statistics.eps)
        goals = self.target[rows], self.target_bias[rows]
        return Normalisation(self.weight, self.bias, *goals, statistics, self.kept)


def norm_rule(
    name: str, layer: nn.BatchNorm2d | nn.GroupNorm, weights: Tensors, target: Tensors, kept: bool
) -> Normalisation | None:
    """None where the layer has no parameters, or their gradients are not matched."""
    weight, bias = f"{name}.weight", f"{name}.bias"
    if weight not in target or bias not in target:
        return None
    victims = len(target[weight])
    statistics: Statistics
    if isinstance(layer, nn.GroupNorm):
        statistics = Own(victims, layer.num_groups, layer.eps)
    elif layer.training or layer.running_mean is None:
        statistics = Own(victims, None, layer.eps)
    else:
        statistics = Running(weights[f"{name}.running_mean"], weights[f"{name}.running_var"], layer.eps)
    return Normalisation(weights[weight], weights[bias], target[weight], target[bias], statistics, kept)
