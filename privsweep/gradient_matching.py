"""The batched engine of gradient matching: dummy images against captured gradients, many victims at once."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.autograd_matching import AutogradMatcher
from privsweep.game import Loss, Tensors
from privsweep.gradient_distance import Distance
from privsweep.tangent_matching import Match, tangent_matcher


class Matcher(Protocol):
    """Distances of ``V`` victims with their derivatives."""

    def __call__(self, images: Tensor, probabilities: Tensor) -> Match: ...

    def take(self, rows: Tensor) -> Matcher: ...


def matcher(
    model: nn.Sequential,
    weights: Tensors,
    target: Tensors,
    distance: Distance,
    images: int,
    loss: Loss = cross_entropy,
) -> Matcher:
    """The fastest exact matcher for a network in its present mode (train or eval).

    ``weights``: parameters and buffers by name. ``target``: the captured gradients ``[V, ...]`` by parameter
    name, each the mean over ``images`` images. All must be of one dtype, which the images follow. A network
    with a layer that has no rule, or a loss other than cross-entropy, is differentiated twice.
    """
    target = {name: target[name] for name, _ in model.named_parameters()}
    if loss is cross_entropy:
        fast = tangent_matcher(model, weights, target, distance, images)
        if fast is not None:
            return fast
    return AutogradMatcher(model, weights, target, distance, loss)
