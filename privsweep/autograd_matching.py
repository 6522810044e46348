"""Gradient matching of any network by differentiating twice, one victim after the other.

Not through ``torch.func.vmap``: the second derivative of batch, instance and layer normalisation comes out
wrong under it, without an error (seen with PyTorch 2.15), and a residual network is four times slower on
the CPU.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.func import functional_call, replace_all_batch_norm_modules_

from privsweep.game import Loss, Tensors
from privsweep.gradient_distance import Distance
from privsweep.tangent_matching import Match


class AutogradMatcher:
    """The same distances and derivatives as ``TangentMatcher``, for every layer and every loss.

    Batch normalisation in training mode uses the statistics of each victim's own batch and keeps none.
    """

    def __init__(self, model: nn.Module, weights: Tensors, target: Tensors, distance: Distance, loss: Loss):
        self.distance, self.loss, self.target = distance, loss, dict(target)
        self.model = copy.deepcopy(model).requires_grad_(False)
        for layer in self.model.modules():
            if layer.training and isinstance(layer, nn.modules.batchnorm._BatchNorm):
                replace_all_batch_norm_modules_(layer)
        kept = self.model.state_dict().keys()
        self.weights = {name: w for name, w in weights.items() if name in kept}

    def take(self, rows: Tensor) -> AutogradMatcher:
        """The same for the victims ``rows`` only; a victim may be taken several times."""
        target = {name: g[rows] for name, g in self.target.items()}
        return AutogradMatcher(self.model, self.weights, target, self.distance, self.loss)

    def __call__(self, images: Tensor, probabilities: Tensor) -> Match:
        """``images`` ``[V, B, C, H, W]`` as fed to the model, ``probabilities`` ``[V, B, K]``."""
        each = [self._match(v, images[v], probabilities[v]) for v in range(len(images))]
        return Match(*(torch.stack(part) for part in zip(*each, strict=True)))

    @torch.enable_grad()
    def _match(self, victim: int, images: Tensor, probabilities: Tensor) -> Match:
        x = images.detach().requires_grad_(True)
        y = probabilities.detach().requires_grad_(True)
        parameters = {name: self.weights[name].detach().requires_grad_(True) for name in self.target}
        value = self.loss(functional_call(self.model, {**self.weights, **parameters}, (x,)), y)
        own = torch.autograd.grad(value, list(parameters.values()), create_graph=True)
        r = h = n = x.new_zeros(())
        for g, goals in zip(own, self.target.values(), strict=True):
            goal = goals[victim]
            e = g - goal
            r, h, n = r + e.square().sum(), h + (e * goal).sum(), n + goal.square().sum()
        distance = self.distance.value(r, h, n)
        return Match(distance.detach(), *torch.autograd.grad(distance, (x, y)))
