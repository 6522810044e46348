"""Gradient matching of any network by differentiating twice, all victims at once, where that is right and pays."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from privsweep.gradient_inversion.engine.autograd import AutogradMatcher
from privsweep.gradient_inversion.engine.match import Match
from privsweep.interface.data import Tensors

_FEWEST = {"cpu": 8, "cuda": 2}  # victims; on a CPU, 0.7 to 1.4 times as fast with four, 1.5 to 3.3 with sixteen
_TRIED = 2  # victims on which it is compared
_TOLERANCE = 1e-6  # of their derivatives' norms, in float64
_WHOLE = 16  # victims that are never cut in two; of more, half at once, for a graph takes more than is reckoned with


class TogetherMatcher:
    """The same as ``alone``, by ``torch.func.vmap``: for networks that it can batch.

    Under it the second derivative of some layers is wrong without an error, and a user's network may do anything. So
    the first call compares two victims with ``alone``, in float64: where they differ, or it does not work, all victims
    are matched one after the other. So are few, and on a CPU those with several images behind a gradient, which gain
    nothing.
    """

    def __init__(self, alone: AutogradMatcher, right: bool | None = None):
        self.alone, self.right = alone, right  # None: it is not known yet

    def take(self, rows: Tensor) -> TogetherMatcher:
        return TogetherMatcher(self.alone.take(rows), self.right)

    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match:
        victims = len(images)
        if victims < _FEWEST[images.device.type] or (images.device.type == "cpu" and images.shape[1] > 1):
            return self.alone(images, probabilities, noise)
        if self.right is None:
            self.right = self._agrees(images[:_TRIED], probabilities[:_TRIED], noise)
        if not self.right:
            return self.alone(images, probabilities, noise)
        return together(self.alone, images, probabilities, noise or {})

    def _agrees(self, images: Tensor, probabilities: Tensor, noise: Tensors | None) -> bool:
        drawn = None if noise is None else {name: n[:_TRIED].double() for name, n in noise.items()}
        try:
            double = self.alone.take(torch.arange(_TRIED, device=images.device)).double()
            one_by_one = double(images.double(), probabilities.double(), drawn)
            at_once = together(double, images.double(), probabilities.double(), drawn or {})
        except Exception:  # whatever a user's network, or vmap of it, raises
            return False
        pairs = [*zip(one_by_one[:4], at_once[:4], strict=True)]
        pairs += [(one_by_one.noise[name], at_once.noise[name]) for name in one_by_one.noise]
        return all(bool((a - b).norm() <= _TOLERANCE * a.norm()) for a, b in pairs)


def together(matcher: AutogradMatcher, images: Tensor, probabilities: Tensor, noise: Tensors) -> Match:
    """What ``matcher`` gives, by ``vmap`` over victims."""
    model, weights = matcher.model, matcher.weights
    matched = {name: weights[name].detach() for name in matcher.target}

    def loss(parameters: Tensors, x: Tensor, y: Tensor, drawn: Tensors) -> tuple[Tensor, Tensor]:
        outputs = functional_call(model, {**weights, **parameters, **drawn}, (x,))
        logits = outputs[:, : y.shape[1]]
        return matcher.loss(logits if matcher.loss is cross_entropy else outputs, y), logits

    def apart(x: Tensor, y: Tensor, drawn: Tensors, target: Tensors) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        own, logits = grad(loss, has_aux=True)(matched, x, y, drawn)
        distance = matcher.compared(list(own.values()), [target[name] for name in own])
        penalty = matcher.label_weight * (logits.softmax(1) - y).square().sum()
        return distance + penalty, (distance, penalty)

    victims = len(images)
    each = vmap(
        grad(apart, argnums=(0, 1, 2), has_aux=True),
        randomness="error",
        chunk_size=victims if victims <= _WHOLE else -(-victims // 2),
    )
    with sdpa_kernel(SDPBackend.MATH):
        derivatives, values = each(images, probabilities, dict(noise), dict(matcher.target))
    by_image, by_probability, by_noise = derivatives
    return Match(values[0], by_image, by_probability, values[1], by_noise)
