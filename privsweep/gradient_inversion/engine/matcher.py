"""The batched engine of gradient matching: dummy images against captured gradients, many victims at once."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.gradient_inversion.engine.autograd import AutogradMatcher
from privsweep.gradient_inversion.engine.distance import Distance
from privsweep.gradient_inversion.engine.tangent import SMALL, Match, tangent_matcher
from privsweep.interface.data import Loss, Tensors


class Matcher(Protocol):
    """Distances of ``V`` victims with their derivatives."""

    def __call__(self, images: Tensor, probabilities: Tensor, noise: Tensors | None = None) -> Match: ...

    def take(self, rows: Tensor) -> Matcher: ...


def matcher(
    model: nn.Module,
    weights: Tensors,
    target: Tensors,
    distance: Distance,
    shape: tuple[int, ...],
    loss: Loss = cross_entropy,
    label_weight: float = 0.0,
    kept: bool = False,
) -> Matcher:
    """The fastest exact matcher for a network in its present mode (train or eval).

    ``weights``: parameters and buffers by name. ``target``: the captured gradients ``[V, ...]`` by parameter
    name, each of a batch of ``shape`` ``(B, C, H, W)``; a parameter that is missing there is not matched, and with
    ``kept`` neither is an entry that is zero. All must be of one dtype, which the images follow. ``label_weight``
    times the squared distance between prediction and label is added, as a penalty. Cross-entropy reads as many
    outputs as there are classes, any other ``loss`` reads them all. A network with a layer that has no rule, one
    that is no sequence of layers, or a loss other than cross-entropy, is differentiated twice.
    """
    target = {name: target[name] for name, _ in model.named_parameters() if name in target}
    if loss is cross_entropy:
        fast = tangent_matcher(model, weights, target, distance, shape, label_weight, kept)
        if fast is not None:
            return fast
    return AutogradMatcher(model, weights, target, distance, loss, label_weight, kept)


def numbers_held(target: Tensors, copied: bool, kept: bool = False) -> int:
    """Numbers that a matcher holds for one victim besides ``target``: residuals, directions and, if ``copied``, G.

    Wide dense layers form no residual unless ``kept``.
    """
    held = 0
    for g in target.values():
        wide = g.dim() == 3 and g[0].numel() > SMALL and not kept
        held += g[0].numel() * (int(copied) if wide else 4)
    return held
