"""Gradient matching without a second differentiation through the graph.

For an image x, let F be a distance between the gradient g(x) of the loss with respect to the weights and a
captured gradient. Then dF/dx = d/dx <v, g(x)> with ``v = dF/dg`` held constant, and ``<v, g(x)>`` is the
derivative of the loss when the weights move along v. So dF/dx takes a forward and a backward sweep, which find the
residuals, and a tangent forward and a tangent backward sweep along v: about the work of two ordinary gradients,
batched over victims, without a graph. A penalty on the network's outputs is added at the logits, one on what
reaches a layer at that layer, and costs nothing more. How each kind of layer takes part is in the files ``rule_*``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from privsweep.gradient_inversion.engine.distance import Distance, squared_norm
from privsweep.gradient_inversion.engine.match import Match
from privsweep.gradient_inversion.engine.memory import BatchActivations
from privsweep.gradient_inversion.engine.rule_activation import Reparametrisation, Rule, parameterless_rule
from privsweep.gradient_inversion.engine.rule_conv import conv_rule
from privsweep.gradient_inversion.engine.rule_dense import WeightRule, linear_rule
from privsweep.gradient_inversion.engine.rule_norm import Normalisation, norm_rule
from privsweep.gradient_inversion.engine.rule_residual import Fork, Join, Swap
from privsweep.gradient_inversion.engine.statistics import Wanted
from privsweep.interface.data import Tensors
from privsweep.model.plain import is_plain
from privsweep.model.residual import Residual
from privsweep.model.sequence import is_sequence
from privsweep.model.stochastic import LinearBesideLossTerm, Reparametrised


class TangentMatcher:
    """Distances between dummy gradients and captured ones under cross-entropy with label probabilities.

    ``target_squared``: squared norms of the captured gradients, ``[V]``. ``samples``: the rules of stochastic layers,
    by the name of their noise.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        distance: Distance,
        target_squared: Tensor,
        label_weight: float,
        samples: Mapping[str, Reparametrisation],
    ):
        self.rules, self.distance, self.target_squared = rules, distance, target_squared
        self.label_weight, self.samples = label_weight, samples
        weighted = [i for i, rule in enumerate(rules) if isinstance(rule, WeightRule)]
        self.first = weighted[0]  # nothing before it depends on the weights
        self.compared = [rule for rule in rules if isinstance(rule, Normalisation) and rule.wanted is not None]

    def take(self, rows: Tensor) -> TangentMatcher:
        rules = [rule.take(rows) if isinstance(rule, WeightRule) else rule for rule in self.rules]
        return TangentMatcher(rules, self.distance, self.target_squared[rows], self.label_weight, self.samples)

    @torch.no_grad()
    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match:
        a, share = images.flatten(0, 1), 1 / images.shape[1]
        target = probabilities.flatten(0, 1)
        for name, sample in self.samples.items():
            sample.noise = a.new_zeros(1, 1) if noise is None else noise[name].flatten(0, 1)
        for rule in self.rules:
            a = rule.forward(a)
        predicted, mass = a.softmax(1), target.sum(1, keepdim=True)

        value, residual_factor, target_factor = self._backward((predicted * mass - target) * share)
        t = self._tangent_forward(residual_factor, target_factor)
        centred = t - (predicted * t).sum(1, keepdim=True)
        dt = predicted * centred * mass * share
        by_probability = -share * centred
        penalty = _summed([torch.zeros_like(value), *(rule.penalty for rule in self.compared)])
        if self.label_weight:
            error = predicted - target
            penalty += self.label_weight * error.square().view(len(images), -1).sum(1)
            dt += 2 * self.label_weight * predicted * (error - (predicted * error).sum(1, keepdim=True))
            by_probability -= 2 * self.label_weight * error
        for rule in reversed(self.rules[self.first :]):
            dt = rule.tangent_backward(dt)
        for rule in reversed(self.rules[: self.first]):
            dt = rule.backward(dt)
        by_noise = {n: s.by_noise.view(*images.shape[:2], -1) for n, s in self.samples.items() if noise is not None}
        return Match(value, dt.view(images.shape), by_probability.view(probabilities.shape), penalty, by_noise)

    def _backward(self, d: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """The distance, and the factors of the residual and of the target in v."""
        squares: list[Tensor] = []
        dots: list[Tensor] = []
        dtype = d.dtype
        for rule in reversed(self.rules[self.first :]):
            if isinstance(rule, WeightRule):
                of_rule = rule.compare_with_target(d, self.distance.needs_dot)
                squares += of_rule[0]
                dots += of_rule[1]
            if rule is not self.rules[self.first]:
                d = rule.backward(d)
        residual_squared = _summed(squares)
        residual_dot_target = _summed(dots) if dots else torch.zeros_like(residual_squared)
        value, by_e, by_target = self.distance.with_factors(residual_squared, residual_dot_target, self.target_squared)
        return value.to(dtype), by_e.to(dtype), None if by_target is None else by_target.to(dtype)

    def _tangent_forward(self, residual_factor: Tensor, target_factor: Tensor | None) -> Tensor:
        """How the logits move when the weights move along v."""
        for rule in self.rules:
            if isinstance(rule, WeightRule):
                rule.set_direction(residual_factor, target_factor)
        first = self.rules[self.first]
        assert isinstance(first, WeightRule)
        t = first.direction_times_input()
        for rule in self.rules[self.first + 1 :]:
            t = rule.tangent_forward(t)
        return t


def _summed(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0)


def tangent_matcher(
    model: nn.Module,
    weights: Tensors,
    target: Tensors,
    distance: Distance,
    activations: BatchActivations,
    label_weight: float = 0.0,
    only_nonzero: bool = False,
    wanted: Mapping[str, Wanted] | None = None,
    clients: int = 1,
    term: float | None = None,
) -> TangentMatcher | None:
    """None if some layer has no rule, or the network is not a sequence of layers.

    See ``privsweep.gradient_inversion.engine.matcher.matcher``. ``term``: cross-entropy has so many times the mean of
    the network's last output added, which must be the term of a stochastic layer before the last.
    """
    if not is_sequence(model):
        return None
    termed = _layer_of_term(model) if term is not None else None
    if term is not None and termed is None:
        return None
    rules: list[Rule] = []
    samples: dict[str, Reparametrisation] = {}
    flat = False
    for name, layer in _layers(model):
        rule: Rule | None
        if _is_idle(layer):
            continue
        if isinstance(layer, Rule):
            rule = layer
        elif isinstance(layer, Reparametrised):
            weight = term / activations.examples if term is not None and layer is termed else 0.0
            rule = samples[f"{name}.noise"] = Reparametrisation(layer, weight)
        elif not is_plain(layer):
            rule = None  # whatever it is derived from
        elif isinstance(layer, nn.Linear | LinearBesideLossTerm) and flat:
            rule = linear_rule(name, weights, target, activations.examples, only_nonzero)
        elif isinstance(layer, nn.Conv2d) and not flat:
            rule = conv_rule(name, layer, weights, target, activations.positions[name], only_nonzero)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm) and not flat:
            rule = norm_rule(name, layer, weights, target, only_nonzero, (wanted or {}).get(name), clients)
        elif isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == (1 if flat else 3):
            rule = norm_rule(name, layer, weights, target, only_nonzero, None)  # over a whole image
        else:
            rule = parameterless_rule(layer)
        if rule is None:
            return None
        flat = flat or isinstance(layer, nn.Flatten)
        rules.append(rule)
    first = next((rule for rule in rules if isinstance(rule, WeightRule | Fork)), None)
    if not isinstance(first, WeightRule):  # the tangent starts at one, and both paths of a fork would need it
        return None
    target_squared = torch.stack([squared_norm(g) for g in target.values()]).sum(0)
    return TangentMatcher(rules, distance, target_squared, label_weight, samples)


def _layer_of_term(model: nn.Module) -> Reparametrised | None:
    """The layer whose term is the network's last output, if its derivatives are known."""
    *_, layer, last = [None, *model.children()]
    if not isinstance(last, LinearBesideLossTerm) or not isinstance(layer, Reparametrised):
        return None
    return layer if layer.term_derivatives(layer.noise.new_zeros(1, 2 * layer.noise.numel())) is not None else None


def _is_idle(layer: nn.Module | Rule) -> bool:
    """Whether it hands on what it is given."""
    if isinstance(layer, Rule) or not is_plain(layer):
        return False
    return isinstance(layer, nn.Identity) or (
        isinstance(layer, nn.Dropout | nn.Dropout2d) and not (layer.training and layer.p)
    )


def _layers(layer: nn.Module, path: str = "") -> list[tuple[str, nn.Module | Rule]]:
    """In the order of the sweeps, by name. A stochastic layer comes after its encoder and before its decoder: what a
    cross-entropy sees of it is the sample between them. The two paths of a residual block come one after the other,
    with rules that lead from one to the other."""
    if type(layer) is nn.Sequential and is_plain(layer):
        parts = (_layers(part, f"{path}.{name}".lstrip(".")) for name, part in layer.named_children())
        return [found for part in parts for found in part]
    if type(layer) is Residual and is_plain(layer):
        fork, join = Fork(), Join()
        branch, shortcut = (_layers(getattr(layer, name), f"{path}.{name}") for name in ("branch", "shortcut"))
        return [(path, fork), *branch, (path, Swap(fork, join)), *shortcut, (path, join)]
    if isinstance(layer, Reparametrised):
        return [*_layers(layer.encoder, f"{path}.encoder"), (path, layer), *_layers(layer.decoder, f"{path}.decoder")]
    return [(path, layer)]
