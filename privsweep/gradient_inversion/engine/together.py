"""Gradient matching of any network by differentiating twice, all victims at once, where that is right and pays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from privsweep.gradient_inversion.engine.autograd import AutogradMatcher
from privsweep.gradient_inversion.engine.match import Match
from privsweep.gradient_inversion.engine.statistics import inputs_of, penalty_of_one
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng

# Victims. On one CPU core (scripts/thresholds.py) ShuffleNet is 0.9 times as fast with four as one by one.
_FEWEST = {"cpu": 8, "cuda": 2}
# Parameters an innermost layer, on a CPU: every victim has gradients of its own, which of larger layers leave the
# caches. Eight and sixteen victims are 1.4 and 2.3 times as fast at 2,100 (ShuffleNet), 1.1 and 1.2 at 6,700
# (MNASNet 0.5), 0.9 and 1.0 at 7,700 (ShuffleNet 1.0), 0.6 and 0.6 at 15,900 (MobileNet), 0.4 and 0.2 at 24,200
# (RegNet); SqueezeNet, at 12,800, 1.4 and 0.7.
_LARGEST = 7_000
# Through several local steps, on a CPU: more of it is bookkeeping, which all victims share. Five steps of a LeNet with
# 1,700 parameters a layer and eight victims are 3.0 times as fast (four images behind each: 1.6), with four victims
# 1.6 times and with two 0.8; with 9,300 1.6 (1.3) and 1.2 times; with 41,000 1.1 times; of an SMLP with 311,000 0.2.
_FEWEST_BY_STEPS, _LARGEST_BY_STEPS = 4, 41_000
_TRIED = 2  # victims on which it is compared
_TOLERANCE = 1e-6  # of their derivatives' norms, in float64
_WHOLE = 16  # victims that are never cut in two; of more, half at once, for a graph takes more than is reckoned with


class TogetherMatcher:
    """The same as ``alone``, for networks that ``batches`` is true of; few victims are matched one after the other."""

    def __init__(self, alone: AutogradMatcher):
        self.alone = alone

    def take(self, rows: Tensor) -> TogetherMatcher:
        return TogetherMatcher(self.alone.take(rows))

    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match:
        if noise or len(images) < _fewest(self.alone, images.device):
            return self.alone(images, probabilities, noise)
        return together(self.alone, images, probabilities)


def batches(matcher: AutogradMatcher, shape: tuple[int, ...]) -> bool:
    """Whether ``torch.func.vmap`` gains something, and comes to the same, for images of ``shape`` ``(B, C, H, W)``.

    Under it the second derivative of some layers is wrong without an error, and a user's network may do anything. So
    two victims are compared with one after the other, in float64. Several images behind a gradient gain nothing on a
    CPU, unless it takes local steps, nor do few victims, nor large layers.
    """
    first = next(iter(matcher.target.values()))
    device, by_steps = first.device, matcher.local is not None
    if len(first) < _fewest(matcher, device):
        return False
    if device.type == "cpu":
        largest = _LARGEST_BY_STEPS if by_steps else _LARGEST
        if (shape[0] > 1 and not by_steps) or parameters_a_layer(matcher.model) > largest:
            return False
    try:
        tried = matcher.take(torch.arange(_TRIED, device=device)).double()
        rng = Rng(0)
        images = rng.child("images").normal(_TRIED, *shape).double().to(device)
        classes = functional_call(tried.model, tried.weights, (images[0],)).shape[1]
        probabilities = rng.child("labels").normal(_TRIED, shape[0], classes).double().softmax(2).to(device)
        alone, at_once = tried(images, probabilities), together(tried, images, probabilities)
    except Exception:  # whatever a user's network, or vmap of it, raises
        return False
    pairs = zip(alone[:4], at_once[:4], strict=True)
    return all(bool((a - b).norm() <= _TOLERANCE * a.norm()) for a, b in pairs)


def _fewest(matcher: AutogradMatcher, device: torch.device) -> int:
    fewest = _FEWEST[device.type]
    return min(fewest, _FEWEST_BY_STEPS) if matcher.local is not None else fewest


def parameters_a_layer(model: nn.Module) -> float:
    """On average, of the innermost layers."""
    layers = sum(not any(layer.children()) for layer in model.modules())
    return sum(p.numel() for p in model.parameters()) / layers


def together(matcher: AutogradMatcher, images: Tensor, probabilities: Tensor) -> Match:
    """What ``matcher`` gives without noise, by ``vmap`` over victims."""
    local = matcher.local
    model, weights = matcher.model, matcher.weights
    matched = {name: weights[name].detach() for name in matcher.target}

    def loss(
        parameters: Tensors, x: Tensor, y: Tensor, clients: int
    ) -> tuple[Tensor, tuple[Tensor, dict[str, list[Tensor]]]]:
        with inputs_of(model, matcher.wanted) as reached:
            outputs = matcher.outputs_of(
                lambda rows: functional_call(model, {**weights, **parameters}, (x[rows],)), len(x), clients
            )
        return matcher.loss_of(outputs, y), (outputs[:, : y.shape[1]], reached)

    def apart(
        x: Tensor, y: Tensor, target: Tensors, moments: Mapping[str, Sequence[Tensor]]
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        own, (logits, reached) = grad(loss, has_aux=True)(matched, x, y, matcher.clients)
        if local is not None:
            reached = {name: [] for name in matcher.wanted}

            def gradient_of(now: Tensors, rows: slice) -> dict[str, Tensor]:
                stepped, (_, seen) = grad(loss, has_aux=True)(now, x[rows], y[rows], 1)
                for name, batches in seen.items():
                    reached[name] += batches
                return stepped

            own = local.difference(gradient_of, matched, len(x))
        distance = matcher.compared(list(own.values()), [target[name] for name in own])
        penalty = matcher.label_weight * (logits.softmax(1) - y).square().sum()
        if reached:
            wanted = {name: matcher.wanted[name].of(t[None] for t in m) for name, m in moments.items()}
            penalty = penalty + penalty_of_one(reached, wanted)
        return distance + penalty, (distance, penalty)

    victims = len(images)
    each = vmap(
        grad(apart, argnums=(0, 1), has_aux=True),
        randomness="error",
        chunk_size=victims if victims <= _WHOLE else -(-victims // 2),
    )
    with sdpa_kernel(SDPBackend.MATH):
        moments = {name: tuple(w.moments) for name, w in matcher.wanted.items()}
        (by_image, by_probability), (distance, penalty) = each(images, probabilities, dict(matcher.target), moments)
    return Match(distance, by_image, by_probability, penalty, {})
