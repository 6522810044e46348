"""Gradient matching without a second differentiation through the graph.

For an image x, let F be a distance between the gradient g(x) of the loss with respect to the weights and a
captured gradient. Then dF/dx = d/dx <v, g(x)> with ``v = dF/dg`` held constant, and ``<v, g(x)>`` is the
derivative of the loss when the weights move along v. So dF/dx is a forward and a backward sweep, in which
the residuals are found, and a tangent forward and a tangent backward sweep along v: about the work of two
ordinary gradients, batched over victims, with no graph. A penalty on the network's answers joins at the logits
and costs nothing more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from privsweep.gradient_inversion.engine.distance import Distance
from privsweep.gradient_inversion.engine.low_rank import Matrices, Whole, factorise
from privsweep.gradient_inversion.engine.memory import footprint
from privsweep.gradient_inversion.engine.rule_activation import Rule, Sampling, UnmatchedLinear, plain_rule
from privsweep.gradient_inversion.engine.rule_conv import Conv, GramConv, LargeConv, Sliding
from privsweep.gradient_inversion.engine.rule_dense import DenseLinear, GramLinear, WeightRule, squared_norm
from privsweep.gradient_inversion.engine.rule_norm import norm_rule
from privsweep.gradient_inversion.engine.rule_residual import Fork, Join, Swap
from privsweep.interface.data import Tensors
from privsweep.model.residual import Residual
from privsweep.model.sequence import is_sequence
from privsweep.model.variational_bottleneck import Bottleneck, Output

SMALL = 2**12  # entries of a dense layer's weight up to which the plain residual is the faster
_LARGE = 2**18  # entries of a victim's patches from which a convolution goes without them
_DEEP = 8  # channels that this takes, for convolutions of one or three are slow backwards
_FEW = 4  # times as many filters and inputs as places make Gram matrices the faster for a convolution


class Match(NamedTuple):
    """The distance of ``V`` victims, the label penalty, and the derivatives of their sum."""

    distance: Tensor  # [V] between the gradients alone
    images: Tensor  # [V, B, C, H, W]
    probabilities: Tensor  # [V, B, K], with respect to the label probabilities, each on its own
    penalty: Tensor  # [V]
    noise: Tensors  # name -> [V, B, ...], with respect to the noise of stochastic layers


class TangentMatcher:
    """Distances between dummy gradients and captured ones under cross-entropy with label probabilities.

    ``sampling``: the rules of stochastic layers, by the name of their noise.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        distance: Distance,
        norm2: Tensor,
        label_weight: float,
        sampling: Mapping[str, Sampling],
    ):
        self.rules, self.distance, self.norm2 = rules, distance, norm2
        self.label_weight, self.sampling = label_weight, sampling
        weighted = [i for i, rule in enumerate(rules) if isinstance(rule, WeightRule)]
        self.first = weighted[0]  # nothing before it depends on the weights
        self.overlap = distance.slopes(norm2, norm2, norm2)[1] is not None

    def take(self, rows: Tensor) -> TangentMatcher:
        """The same for the victims ``rows`` only; a victim may be taken several times."""
        rules = [rule.take(rows) if isinstance(rule, WeightRule) else rule for rule in self.rules]
        return TangentMatcher(rules, self.distance, self.norm2[rows], self.label_weight, self.sampling)

    @torch.no_grad()
    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match:
        """``images`` ``[V, B, C, H, W]`` as fed to the model, ``probabilities`` ``[V, B, K]``.

        ``noise`` ``[V, B, ...]`` for every stochastic layer; None is no noise.
        """
        a, share = images.flatten(0, 1), 1 / images.shape[1]
        target = probabilities.flatten(0, 1)
        for name, sampler in self.sampling.items():
            sampler.noise = a.new_zeros(1, 1) if noise is None else noise[name].flatten(0, 1)
        for rule in self.rules:
            a = rule.forward(a)
        predicted, mass = a.softmax(1), target.sum(1, keepdim=True)

        value, p, q = self._backward((predicted * mass - target) * share)
        t = self._tangent(p, q)
        centred = t - (predicted * t).sum(1, keepdim=True)
        dt = predicted * centred * mass * share
        by_probability = -share * centred
        penalty = torch.zeros_like(value)
        if self.label_weight:
            off = predicted - target
            penalty = self.label_weight * off.square().view(len(images), -1).sum(1)
            dt += 2 * self.label_weight * predicted * (off - (predicted * off).sum(1, keepdim=True))
            by_probability -= 2 * self.label_weight * off
        for rule in reversed(self.rules[self.first :]):
            dt = rule.tangent_backward(dt)
        for rule in reversed(self.rules[: self.first]):
            dt = rule.backward(dt)
        by_noise = {n: s.by_noise.view(*images.shape[:2], -1) for n, s in self.sampling.items() if noise is not None}
        return Match(value, dt.view(images.shape), by_probability.view(probabilities.shape), penalty, by_noise)

    def _backward(self, d: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The distance, and the factors of the residual and of the target in v."""
        r, h = torch.zeros_like(self.norm2), torch.zeros_like(self.norm2)
        dtype = d.dtype
        for rule in reversed(self.rules[self.first :]):
            if isinstance(rule, WeightRule):
                more_r, more_h = rule.observe(d, self.overlap)
                r = r + more_r
                h = h if more_h is None else h + more_h
            if rule is not self.rules[self.first]:
                d = rule.backward(d)
        by_r, by_h = self.distance.slopes(r, h, self.norm2)
        q = None if by_h is None else by_h.to(dtype)
        return self.distance.value(r, h, self.norm2).to(dtype), 2 * by_r.to(dtype), q

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
    model: nn.Module,
    weights: Tensors,
    target: Tensors,
    distance: Distance,
    shape: tuple[int, ...],
    label_weight: float = 0.0,
    kept: bool = False,
) -> TangentMatcher | None:
    """None where a layer has no rule, or the network is no sequence of layers.

    See ``privsweep.gradient_inversion.engine.matcher.matcher``.
    """
    if not is_sequence(model):
        return None
    places = footprint(model, shape).places
    rules: list[Rule] = []
    sampling: dict[str, Sampling] = {}
    flat = False
    for name, layer in _layers(model):
        rule: Rule | None
        if isinstance(layer, nn.Identity):
            continue
        if isinstance(layer, Rule):
            rule = layer
        elif isinstance(layer, Bottleneck):
            rule = sampling[f"{name}.noise"] = Sampling()
        elif isinstance(layer, nn.Linear | Output) and flat:
            rule = _linear(name, weights, target, shape[0], kept)
        elif isinstance(layer, nn.Conv2d) and not flat:
            rule = _conv(name, layer, weights, target, places[name], kept)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm) and not flat:
            rule = norm_rule(name, layer, weights, target, kept)
        else:
            rule = plain_rule(layer)
        if rule is None:
            return None
        flat = flat or isinstance(layer, nn.Flatten)
        rules.append(rule)
    first = next((rule for rule in rules if isinstance(rule, WeightRule | Fork)), None)
    if not isinstance(first, WeightRule):  # the tangent starts at one, and both paths of a fork would need it
        return None
    norm2 = torch.stack([squared_norm(g) for g in target.values()]).sum(0)
    return TangentMatcher(rules, distance, norm2, label_weight, sampling)


def _layers(model: nn.Sequential, prefix: str = "") -> list[tuple[str, nn.Module | Rule]]:
    """In order. A bottleneck comes after its encoder and before its decoder: what it adds to a cross-entropy is
    the sampling between them, for the divergence in its last column is no logit. The two paths of a residual block
    come one after the other, with rules that lead from one to the other."""
    found: list[tuple[str, nn.Module | Rule]] = []
    for name, layer in model.named_children():
        path = prefix + name
        if type(layer) is nn.Sequential:
            found += _layers(layer, f"{path}.")
        elif type(layer) is Residual:
            fork, join = Fork(), Join()
            found += [(path, fork), *_layers(layer.branch, f"{path}.branch."), (path, Swap(fork, join))]
            found += [*_layers(layer.shortcut, f"{path}.shortcut."), (path, join)]
        elif type(layer) is Bottleneck:
            found += [(f"{path}.encoder", layer.encoder), (path, layer), (f"{path}.decoder", layer.decoder)]
        else:
            found.append((path, layer))
    return found


def _linear(name: str, weights: Tensors, target: Tensors, images: int, kept: bool) -> Rule:
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if f"{name}.weight" not in target:
        return UnmatchedLinear(weight, bias)
    goal, goal_bias = target[f"{name}.weight"], target.get(f"{name}.bias")
    if kept or weight.numel() <= SMALL:
        return DenseLinear(weight, bias, goal, goal_bias, kept)
    return GramLinear(weight, bias, _matrices(goal, images), goal_bias)


def _conv(
    name: str, layer: nn.Conv2d, weights: Tensors, target: Tensors, places: int, kept: bool
) -> Conv | GramConv | LargeConv | None:
    plain = layer.groups == 1 and layer.padding_mode == "zeros" and layer.dilation == (1, 1)
    if not plain or isinstance(layer.padding, str) or f"{name}.weight" not in target:
        return None
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    goal_bias = target.get(f"{name}.bias")
    sliding = Sliding(layer.kernel_size, layer.stride, layer.padding)  # type: ignore[arg-type]
    outputs, inputs = weight.shape[0], weight[0].numel()
    if not kept and _FEW * places <= min(outputs, inputs):
        goal = sliding.rows(target[f"{name}.weight"])
        return GramConv(weight, bias, _matrices(goal, places), goal_bias, sliding)
    if places * inputs >= _LARGE and weight.shape[1] >= _DEEP:
        return LargeConv(weight, bias, target[f"{name}.weight"].flatten(2), goal_bias, sliding, kept)
    return Conv(weight, bias, sliding.rows(target[f"{name}.weight"]), goal_bias, sliding, kept)


def _matrices(goal: Tensor, rank: int) -> Matrices:
    """Captured gradients ``[V, outputs, inputs]``, thin if all are exactly of that rank."""
    factors = factorise(goal, rank)
    return Whole(goal, squared_norm(goal)) if factors is None else factors
