"""Labels read off a captured gradient of the cross-entropy, without any optimisation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate

from privsweep.gradient_inversion.present_classes import PresentClasses, present_classes
from privsweep.interface.data import Domain, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.stochastic import LinearBesideLossTerm, draw

PROBES = 256  # random inputs to estimate a network's average output and features from
_WHOLE = 0.6  # of a gradient: if more is left it may be whole, for what is expected once a network has learnt is off
_LEARNT = 0.35  # by which answers are off their mean: of untrained networks at most 0.25, after an epoch 0.47 and more
_AGAINST = -0.9  # a cosine below: rows and bias point apart, as they do exactly where the features do


def read_labels(
    model: nn.Module, weights: Tensors, gradient: Tensors, domain: Domain, examples: int, rng: Rng
) -> Tensor:
    """The labels behind every captured gradient, int64 ``[V, N]``, sorted.

    The gradient of the last bias is the mean over the batch of softmax minus one-hot, of which for one example only
    the label's entry is negative, and row c of the last weight's is that entry times the features, so that the label's
    row is told by its sign (iDLG: Zhao et al., 2020, section 3). Rows have more entries than noise can drown: they are
    projected on features that the adversary expects, and the bias is added. For more examples, class c occurs
    ``N * (mean softmax_c - gradient_c)`` times, where the mean softmax depends on which classes there are. That of a
    class whose sign shows that it occurs is read off its row over its bias gradient, about its mean features (Ma et
    al., "Instance-wise Batch Label Restoration via Gradients in Federated Learning", 2023), as far as the row is of
    its own examples; the rest is estimated on random pictures. A class that is seen in its row occurs once at least,
    and if the network has learnt, one that is not does not occur (``present_classes``): the examples that it is sure
    of, of which next to nothing is in the gradient, are shared among those that may. Of fewer examples than classes
    those that are missing tell what clipping has made of the gradient. The counts are rounded to add up to N by largest
    remainders. The result is exact if the network's outputs hardly depend on its inputs, as those of an untrained one.
    Of a gradient that tells nothing, or is not finite, classes are even.

    Raises UserError as ``last_bias``.
    """
    bias = last_bias(model, domain.classes)
    observed = gradient[bias][:, : domain.classes]
    if examples == 1:
        return (observed + _projected_rows(model, weights, gradient, domain, rng)).argmin(1, keepdim=True)
    random = _answers_to_pictures(model, weights, domain, rng)
    expected, rows = random.mean.to(observed), gradient.get(f"{bias.removesuffix('bias')}weight")
    rows = None if rows is None else rows[:, : domain.classes]
    present = present_classes(rows, observed, random.least.to(observed))
    observed = observed / _scale(observed, expected, examples)
    answers = _softmax_by_class(model, weights, gradient, observed, expected)
    may = ~(present.unseen & (random.apart > _LEARNT).to(observed.device))
    counts = _counts(answers, observed, _once(present, examples), may, examples)
    return labels_by_counts(counts.to(observed.device), examples)


def labels_by_counts(counts: Tensor, examples: int) -> Tensor:
    """Int64 ``[V, N]``, sorted, where class c occurs about ``counts[:, c]`` times; classes are even where none does.

    The counts ``[V, K]`` are scaled to N ``examples`` and rounded by largest remainders.
    """
    total = counts.sum(1, keepdim=True)
    counts = torch.where(total > 0, counts * examples / total, examples / counts.shape[1])
    whole = counts.floor().long()
    rank = (counts - whole).argsort(1, descending=True).argsort(1)
    whole += rank < (examples - whole.sum(1, keepdim=True))
    classes = torch.arange(counts.shape[1], device=counts.device)
    return torch.stack([classes.repeat_interleave(row) for row in whole])


def label_images(model: nn.Module, weights: Tensors, gradient: Tensors, images: Tensor, classes: int) -> Tensor:
    """Which label belongs to which image, for accurately known images ``[V, N, C, H, W]``; int64 ``[V, N]``.

    The gradient of the last weight is ``errors^T features``; with the features of the images known, least squares
    gives every image's own error, whose smallest entry is the label's. What is not finite counts as zero.
    """
    output = output_layer(model, classes)
    assert output is not None
    weight = gradient[f"{output}.weight"]
    [seen], _ = _run(output, model, weights, images.flatten(0, 1))
    features = seen.view(*images.shape[:2], -1)[..., : weight.shape[2]]
    known, observed = (t.nan_to_num(0, 0, 0).mT.double().cpu() for t in (features, weight))
    # On the CPU, for the only solver of a GPU needs features of full rank.
    errors = torch.linalg.lstsq(known, observed, driver="gelsd").solution
    return errors.argmin(2).to(weight.device)


def output_layer(model: nn.Module, classes: int) -> str | None:
    """The name of the linear layer that the network ends in: the last that has an output for each class; or None.

    Layers are in the order in which the network names them, which need not be that in which it calls them.
    """
    kinds = nn.Linear | LinearBesideLossTerm
    linear = [name for name, m in model.named_modules() if isinstance(m, kinds) and len(m.weight) == classes]
    return linear[-1] if linear else None


def last_bias(model: nn.Module, classes: int) -> str:
    """The name of the output layer's bias. Raises UserError where there is none."""
    output = output_layer(model, classes)
    if output is None or model.get_submodule(output).bias is None:
        raise UserError(
            "attack.labels=analytic: the model does not end in a linear layer with a bias; take labels=optimised"
        )
    return f"{output}.bias"


def not_sent(model: nn.Module, names: Iterable[str]) -> list[str]:
    """Which of these parameters the update does not hold, for they are frozen in the model, or made of others."""
    sent = {name for name, p in model.named_parameters() if p.requires_grad}
    return [name for name in names if name not in sent]


def _scale(observed: Tensor, expected: Tensor, examples: int) -> Tensor:
    """By what clipping has multiplied the bias gradient ``[V, K]``, at most 1; ``[V, 1]``.

    That of a class which does not occur is its mean softmax ``expected`` ``[K]``, and at least ``K - N`` do not: those
    of the largest gradients for their softmax. What was pruned tells nothing. One where all classes may occur, and
    where there is more left than such an estimate is sure of.
    """
    missing = max(len(expected) - examples, 0)
    away = (observed / expected).nan_to_num(0).topk(missing, 1).indices
    seen, unscaled = observed.gather(1, away), expected[away]
    scale = seen.sum(1, keepdim=True) / (unscaled * (seen != 0)).sum(1, keepdim=True)
    return torch.where((scale > 0) & (scale < _WHOLE), scale, 1)


def _softmax_by_class(
    model: nn.Module, weights: Tensors, gradient: Tensors, errors: Tensor, expected: Tensor
) -> Tensor:
    """What the network answers to examples of each class, ``[V, K, K]``; ``expected`` ``[K]`` where nothing tells.

    ``errors``: the bias gradient ``[V, K]`` as it was before it was scaled.
    """
    classes = len(expected)
    bias = last_bias(model, classes)
    weight = bias.removesuffix("bias") + "weight"
    answers, errors = expected.expand(len(errors), classes, -1), errors[:, :, None]
    if (rows := gradient.get(weight)) is None:
        return answers
    head, offset = (weights[name][:classes].to(rows) for name in (weight, bias))
    own = (rows[:, :classes] / gradient[bias][:, :classes, None] @ head.mT + offset).softmax(2)
    # The rest of what the row is made of are the other examples' errors.
    share = (errors / (errors - expected[:, None])).nan_to_num(0)
    return torch.where((errors < 0) & own.isfinite().all(2, keepdim=True), answers.lerp(own, share), answers)


def _once(present: PresentClasses, examples: int) -> Tensor:
    """Classes that are seen, bool ``[V, K]``: of more than there are examples the clearest."""
    return present.seen & (present.lowest.argsort(1).argsort(1) < examples)


def _counts(answers: Tensor, observed: Tensor, once: Tensor, may: Tensor, examples: int) -> Tensor:
    """How often every class occurs, before rounding, float64 ``[V, K]``; zeros where a gradient is not finite.

    By least squares: each example adds its class's answer less the class to ``examples`` times the bias gradient
    ``[V, K]``, and one to their number. No count is below zero, nor below one where a class occurs ``once``, nor above
    zero where it ``may`` not; bool ``[V, K]`` both.
    """
    from scipy.optimize import nnls  # here, for planning needs no optimiser

    ones = torch.ones(len(answers), 1, answers.shape[2], dtype=torch.float64)
    each = answers.double().cpu().mT - torch.eye(answers.shape[2], dtype=torch.float64)
    each = torch.cat((each, ones), 1) * may[:, None].cpu()  # what adds nothing is given nothing
    total = torch.cat((observed.double().cpu(), ones[:, :, 0]), 1) * examples
    found = [
        n + nnls(a, b - a @ n)[0] if np.isfinite(b).all() else np.zeros_like(n)
        for a, b, n in zip(each.numpy(), total.numpy(), once.double().cpu().numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(found))


def _projected_rows(model: nn.Module, weights: Tensors, gradient: Tensors, domain: Domain, rng: Rng) -> Tensor | float:
    """The last weight's gradient times the mean features of uniform pixels, ``[V, K]``: ``<f, mean f> * error``.

    Features that may be negative can make the product so: where rows and bias disagree the sign is turned, so that
    their sum has the error's. Zero where the weight is not sent, or the layer never called.
    """
    bias = last_bias(model, domain.classes)
    output = bias.removesuffix(".bias")
    if (rows := gradient.get(f"{output}.weight")) is None:
        return 0.0
    device = next(iter(weights.values())).device
    pixels = torch.rand(PROBES, *domain.shape, generator=rng.child("pixels").generator())
    noise = draw(model, PROBES, rng.child("noise"), device)
    seen, _ = _run(output, model, {**weights, **noise}, domain.inputs(pixels).to(device))
    if not seen:
        return 0.0
    mean = seen[-1].flatten(0, -2).mean(0)[: rows.shape[2]]
    projected = rows[:, : domain.classes] @ mean.to(rows)
    cosine = torch.cosine_similarity(projected, gradient[bias][:, : domain.classes])
    return torch.where(cosine[:, None] < _AGAINST, -projected, projected)


def _run(layer: str, model: nn.Module, values: Tensors, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """What ``layer`` is given, each time it is called, while a network of these ``values`` takes ``x``; its answers."""
    seen: list[Tensor] = []
    handle = model.get_submodule(layer).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        with torch.no_grad():  # copies, for batch normalisation moves its statistics
            answers = functional_call(model, {name: value.clone() for name, value in values.items()}, (x,))
    finally:
        handle.remove()
    return seen, answers


@dataclass(frozen=True)
class _Answers:
    """What a network makes of random pictures."""

    mean: Tensor  # [K], of the softmax
    apart: Tensor  # [], the mean distance from it, in sums of absolute differences
    least: Tensor  # [], that a feature is, or may be: of features that are none below zero, zero


def _answers_to_pictures(model: nn.Module, weights: Tensors, domain: Domain, rng: Rng) -> _Answers:
    """As far as answers differ, the mean is an even one.

    Pictures are smooth, of four patches a side: of noise a network that has learnt takes nearly all for one or two
    classes.
    """
    device = next(iter(weights.values())).device
    patches = torch.rand(PROBES, domain.shape[0], 4, 4, generator=rng.child("probes").generator())
    x = domain.inputs(interpolate(patches, domain.shape[1:], mode="bilinear")).to(device)
    output = last_bias(model, domain.classes).removesuffix(".bias")
    noise = draw(model, PROBES, rng.child("noise"), device)
    seen, outputs = _run(output, model, {**weights, **noise}, x)
    answers = outputs[:, : domain.classes].softmax(1)
    mean = answers.mean(0)
    apart = (answers - mean).abs().sum(1).mean()
    even = mean.lerp(torch.full_like(mean, 1 / len(mean)), apart.clamp(max=1))
    return _Answers(even, apart, torch.stack([mean.new_zeros(()), *(given.min() for given in seen)]).min())
