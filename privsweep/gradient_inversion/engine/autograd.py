"""Gradient matching of any network by differentiating twice, one victim after the other."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from privsweep.gradient_inversion.engine.distance import Distance
from privsweep.gradient_inversion.engine.local_steps import LocalSteps
from privsweep.gradient_inversion.engine.match import Match
from privsweep.gradient_inversion.engine.statistics import Wanted, inputs_of, penalty_of_one
from privsweep.interface.data import Loss, Tensors


class AutogradMatcher:
    """The same distances and derivatives as ``TangentMatcher``, for every layer and every loss.

    Batch normalisation in training mode uses the statistics of each client's own batch and keeps none. With ``local``
    what is compared are weight differences, ``target`` times its scale.
    """

    def __init__(
        self,
        model: nn.Module,
        weights: Tensors,
        target: Tensors,
        distance: Distance,
        loss: Loss,
        label_weight: float = 0.0,
        only_nonzero: bool = False,
        wanted: Mapping[str, Wanted] | None = None,
        local: LocalSteps | None = None,
        clients: int = 1,
    ):
        self.distance, self.loss, self.target, self.wanted = distance, loss, dict(target), dict(wanted or {})
        self.local, self.clients = local, clients
        self.label_weight, self.only_nonzero = label_weight, only_nonzero
        self.model = copy.deepcopy(model).requires_grad_(False)
        for layer in self.model.modules():
            if layer.training and isinstance(layer, nn.modules.batchnorm._BatchNorm):
                replace_all_batch_norm_modules_(layer)
        stored = self.model.state_dict().keys()
        self.weights = {name: w for name, w in weights.items() if name in stored}

    def take(self, rows: Tensor) -> AutogradMatcher:
        target = {name: g[rows] for name, g in self.target.items()}
        return self._of(self.model, self.weights, target, {name: w.take(rows) for name, w in self.wanted.items()})

    def double(self) -> AutogradMatcher:
        """In float64."""
        model = copy.deepcopy(self.model).double()
        target = {name: g.double() for name, g in self.target.items()}
        weights = {name: w.double() if w.is_floating_point() else w for name, w in self.weights.items()}
        return self._of(model, weights, target, {name: w.double() for name, w in self.wanted.items()})

    def _of(self, model: nn.Module, weights: Tensors, target: Tensors, wanted: Mapping[str, Wanted]) -> AutogradMatcher:
        """The same of others."""
        rest = (self.distance, self.loss, self.label_weight, self.only_nonzero)
        return AutogradMatcher(model, weights, target, *rest, wanted, self.local, self.clients)

    def outputs_of(self, call: Callable[[slice], Tensor], examples: int, clients: int) -> Tensor:
        """Of ``examples`` of so many clients, by calling the network with those that it may normalise together."""
        mixing = (m for m in self.model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
        alone = clients > 1 and any(m.running_mean is None for m in mixing)
        own = examples // clients if alone else examples
        return torch.cat([call(slice(first, first + own)) for first in range(0, examples, own)])

    def loss_of(self, outputs: Tensor, y: Tensor) -> Tensor:
        return self.loss(outputs[:, : y.shape[1]] if self.loss is cross_entropy else outputs, y)

    def compared(self, own: Sequence[Tensor], target: Sequence[Tensor]) -> Tensor:
        """The distance of one victim's gradients from the captured ones, each in one piece: layers may be many."""
        flat, goal = (torch.cat([g.flatten() for g in side]) for side in (own, target))
        residual = (flat - goal) * (goal != 0) if self.only_nonzero else flat - goal
        sums = (t.sum(dtype=torch.float64) for t in (residual.square(), residual * goal, goal.square()))
        return self.distance.value(*sums).to(flat.dtype)

    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match:
        drawn = noise or {}
        each = [
            self._match(v, images[v], probabilities[v], {name: n[v] for name, n in drawn.items()})
            for v in range(len(images))
        ]
        distance, by_image, by_probability, penalty, by_noise = zip(*each, strict=True)
        together = {name: torch.stack([one[name] for one in by_noise]) for name in drawn}
        stacked = [torch.stack(part) for part in (distance, by_image, by_probability, penalty)]
        return Match(stacked[0], stacked[1], stacked[2], stacked[3], together)

    @torch.enable_grad()
    def _match(self, victim: int, images: Tensor, probabilities: Tensor, noise: Tensors) -> Match:
        x = images.detach().requires_grad_(True)
        y = probabilities.detach().requires_grad_(True)
        parameters = {name: self.weights[name].detach().requires_grad_(True) for name in self.target}
        drawn = {name: n.detach().requires_grad_(True) for name, n in noise.items()}

        def called(now: Tensors, rows: slice) -> Tensor:
            noise = {name: n[rows] for name, n in drawn.items()}
            outputs: Tensor = functional_call(self.model, {**self.weights, **now, **noise}, (x[rows],))
            return outputs

        def gradient(now: Tensors, outputs: Tensor, rows: slice) -> tuple[Tensor, ...]:
            return torch.autograd.grad(self.loss_of(outputs, y[rows]), list(now.values()), create_graph=True)

        def gradient_of(now: Tensors, rows: slice) -> dict[str, Tensor]:
            return dict(zip(now, gradient(now, called(now, rows), rows), strict=True))

        every = slice(None)
        # Of attention the fused kernels cannot be differentiated twice.
        with sdpa_kernel(SDPBackend.MATH), inputs_of(self.model, self.wanted) as reached:
            outputs = self.outputs_of(lambda rows: called(parameters, rows), len(x), self.clients)
        if self.local is None:
            own = gradient(parameters, outputs, every)
        else:
            with sdpa_kernel(SDPBackend.MATH), inputs_of(self.model, self.wanted) as reached:
                own = tuple(self.local.difference(gradient_of, parameters, len(x)).values())
        distance = self.compared(own, [captured[victim] for captured in self.target.values()])
        penalty = self.label_weight * (outputs[:, : y.shape[1]].softmax(1) - y).square().sum()
        if self.wanted:
            own_wanted = {name: w.take(slice(victim, victim + 1)) for name, w in self.wanted.items()}
            penalty = penalty + penalty_of_one(reached, own_wanted)
        leaves = (x, y, *drawn.values())
        # Dropout only compares its noise with a threshold: the derivative is zero.
        by_image, by_probability, *by_noise = torch.autograd.grad(distance + penalty, leaves, materialize_grads=True)
        named = dict(zip(drawn, by_noise, strict=True))
        return Match(distance.detach(), by_image, by_probability, penalty.detach(), named)
