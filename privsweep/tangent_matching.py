"""Gradient matching without a second differentiation through the graph.

For an image x, let F be a distance between the gradient g(x) of the loss with respect to the weights and a
captured gradient. Then dF/dx = d/dx <v, g(x)> with ``v = dF/dg`` held constant, and ``<v, g(x)>`` is the
derivative of the loss when the weights move along v. So dF/dx is a forward and a backward sweep, in which
the residuals are found, and a tangent forward and a tangent backward sweep along v: about the work of two
ordinary gradients, batched over victims, with no graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from privsweep.game import Tensors
from privsweep.gradient_distance import Distance
from privsweep.layer_rules import Rule, plain_rule
from privsweep.low_rank import factorise
from privsweep.weight_rules import Conv, DenseLinear, LowRankLinear, Sliding, WeightRule

_SMALL = 2**15  # entries of a dense layer's weight up to which the plain residual is the faster


class Match(NamedTuple):
    """The distance of ``V`` victims and its derivatives."""

    distance: Tensor  # [V]
    images: Tensor  # [V, B, C, H, W]
    probabilities: Tensor  # [V, B, K], with respect to the label probabilities, each on its own


class TangentMatcher:
    """Distances between dummy gradients and captured ones under cross-entropy with label probabilities."""

    def __init__(self, rules: Sequence[Rule], distance: Distance, norm2: Tensor):
        self.rules, self.distance, self.norm2 = rules, distance, norm2
        weighted = [i for i, rule in enumerate(rules) if isinstance(rule, WeightRule)]
        self.first = weighted[0]  # nothing before it depends on the weights
        self.overlap = distance.slopes(norm2, norm2, norm2)[1] is not None

    def take(self, rows: Tensor) -> TangentMatcher:
        """The same for the victims ``rows`` only; a victim may be taken several times."""
        rules = [rule.take(rows) if isinstance(rule, WeightRule) else rule for rule in self.rules]
        return TangentMatcher(rules, self.distance, self.norm2[rows])

    @torch.no_grad()
    def __call__(self, images: Tensor, probabilities: Tensor) -> Match:
        """``images`` ``[V, B, C, H, W]`` as fed to the model, ``probabilities`` ``[V, B, K]``."""
        a, share = images.flatten(0, 1), 1 / images.shape[1]
        target = probabilities.flatten(0, 1)
        for rule in self.rules:
            a = rule.forward(a)
        predicted, mass = a.softmax(1), target.sum(1, keepdim=True)

        value, p, q = self._backward((predicted * mass - target) * share)
        t = self._tangent(p, q)
        centred = t - (predicted * t).sum(1, keepdim=True)
        dt = predicted * centred * mass * share
        for rule in reversed(self.rules[self.first :]):
            dt = rule.tangent_backward(dt)
        for rule in reversed(self.rules[: self.first]):
            dt = rule.backward(dt)
        return Match(value, dt.view(images.shape), (-share * centred).view(probabilities.shape))

    def _backward(self, d: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The distance, and the factors of the residual and of the target in v."""
        r, h = torch.zeros_like(self.norm2), torch.zeros_like(self.norm2)
        for rule in reversed(self.rules[self.first :]):
            if isinstance(rule, WeightRule):
                more_r, more_h = rule.observe(d, self.overlap)
                r = r + more_r
                h = h if more_h is None else h + more_h
            if rule is not self.rules[self.first]:
                d = rule.backward(d)
        by_r, by_h = self.distance.slopes(r, h, self.norm2)
        return self.distance.value(r, h, self.norm2), 2 * by_r, by_h

    def _tangent(self, p: Tensor, q: Tensor | None) -> Tensor:
        """How the logits move when the weights move along v."""
        for rule in self.rules:
            if isinstance(rule, WeightRule):
                rule.steer(p, q)
        first = self.rules[self.first]
        assert isinstance(first, WeightRule)
        t = first.start_tangent()
        for rule in self.rules[self.first + 1 :]:
            t = rule.tangent_forward(t)
        return t


def tangent_matcher(
    model: nn.Sequential, weights: Tensors, target: Tensors, distance: Distance, images: int
) -> TangentMatcher | None:
    """None where a layer has no rule. ``target`` holds ``[V, ...]``, each from ``images`` images."""
    rules: list[Rule] = []
    flat = False
    for name, layer in _layers(model):
        if isinstance(layer, nn.Identity):
            continue
        if isinstance(layer, nn.Linear) and flat:
            rule: Rule | None = _linear(name, weights, target, images)
        elif isinstance(layer, nn.Conv2d) and not flat:
            rule = _conv(name, layer, weights, target)
        else:
            rule = plain_rule(layer)
        if rule is None:
            return None
        flat = flat or isinstance(layer, nn.Flatten)
        rules.append(rule)
    if not any(isinstance(rule, WeightRule) for rule in rules):
        return None
    norm2 = sum(g.flatten(1).square().sum(1) for g in target.values())
    assert isinstance(norm2, Tensor)
    return TangentMatcher(rules, distance, norm2)


def _layers(model: nn.Sequential, prefix: str = "") -> list[tuple[str, nn.Module]]:
    found = []
    for name, layer in model.named_children():
        if type(layer) is nn.Sequential:
            found += _layers(layer, f"{prefix}{name}.")
        else:
            found.append((prefix + name, layer))
    return found


def _linear(name: str, weights: Tensors, target: Tensors, images: int) -> WeightRule:
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    goal, goal_bias = target[f"{name}.weight"], target.get(f"{name}.bias")
    factors = factorise(goal, images) if weight.numel() > _SMALL else None
    if factors is None:
        return DenseLinear(weight, bias, goal, goal_bias)
    return LowRankLinear(weight, bias, factors, goal_bias)


def _conv(name: str, layer: nn.Conv2d, weights: Tensors, target: Tensors) -> WeightRule | None:
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and layer.dilation == (1, 1)
    if not plain or isinstance(layer.padding, str):
        return None
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    goal = target[f"{name}.weight"]
    rows = goal.permute(0, 1, 3, 4, 2).flatten(2).contiguous()
    sliding = Sliding(layer.stride, layer.padding)  # type: ignore[arg-type]
    return Conv(weight, bias, rows, target.get(f"{name}.bias"), sliding)
