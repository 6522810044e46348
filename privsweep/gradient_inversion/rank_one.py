"""The input behind a dense layer's gradient of one example: a matrix of rank one, errors times input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from privsweep.gradient_inversion.label_inference import label_images
from privsweep.interface.data import Domain, Tensors

_STEPS, _STILL = 100, 1e-5  # of the power iteration; what it may still move
_TINY = 1e-30
_ROWS = 64  # of a gradient that are converted to float64 at once
_EXACT = 1e-4  # of a gradient's norm; noise below it is rounding
_SURE = 4.0  # standard errors beyond which the bias gradient is believed
_NEAR = 0.1  # of a norm of errors, by which the network's may differ besides
_SPREAD = 0.5  # of the logarithm of an image's norm, before anything is seen
_NORMS = 33  # at which the network is asked
# How far off the network's answer is, as a share of how far the bias gradient's is and at the least: measured on MLPs
# of four and one hidden layers under sigma 1e-4 to 1e-2.
_NETWORKS, _LEAST = 0.5, 0.02


@dataclass(frozen=True)
class RankOne:
    """The nearest matrix of rank one to each of ``[V, H, D]``: ``size * errors inputs^T``."""

    inputs: Tensor  # [V, D], of norm one; as is its negative, with that of ``errors``
    errors: Tensor  # [V, H], of norm one
    size: Tensor  # [V]
    noise: Tensor  # [V], the standard deviation of an entry of what is left


def nearest_rank_one(weight: Tensor, bias: Tensor) -> RankOne:
    """Of weight gradients ``[V, H, D]``, by power iteration from least squares on the bias gradients ``[V, H]``.

    The leading singular vectors are the maximum likelihood estimate under equal independent noise in every entry.
    Least squares on the bias gradient alone is not: its noise is squared in the divisor. Where entries were pruned, of
    those that are left: the rest is no noise, and what was sent is matched exactly.
    """
    longest = weight.norm(dim=2).argmax(1)[:, None, None].expand(-1, 1, weight.shape[2])
    start = _times(bias, weight)  # nothing where no bias gradient came through
    inputs = _unit(torch.where(start.any(1, keepdim=True), start, weight.gather(1, longest)[:, 0]))
    moving = torch.ones(len(weight), 1, dtype=torch.bool, device=weight.device)
    for _ in range(_STEPS):
        after = _unit(_times((weight @ inputs[:, :, None])[:, :, 0], weight))
        # Whoever stands still is left alone, for a victim's result must not depend on the others.
        apart = (after - inputs).norm(dim=1, keepdim=True)
        inputs, moving = torch.where(moving, after, inputs), moving & (apart > _STILL)
        if not moving.any():
            break
    errors = (weight @ inputs[:, :, None])[:, :, 0]
    for victim in range(len(weight)):
        if (kept := _of_kept_entries(weight[victim], inputs[victim])) is not None:
            inputs[victim], errors[victim] = kept
    size = torch.linalg.vector_norm(errors, dim=1)
    left = torch.stack([_sum_of_squares(matrix) for matrix in weight]) - size.double().square()
    free = max(weight[0].numel() - sum(weight.shape[1:]), 1)
    return RankOne(inputs, _unit(errors), size, (left.clamp_min(0) / free).sqrt().to(weight))


def _of_kept_entries(weight: Tensor, inputs: Tensor) -> tuple[Tensor, Tensor] | None:
    """Inputs ``[D]`` of norm one and errors ``[H]`` whose product is ``weight`` ``[H, D]`` wherever that is not zero.

    By alternating least squares from ``inputs``; an entry none of whose row or column is left is zero. None where
    whole rows and columns alone are zero, as without pruning, and where the entries are not exactly of rank one.
    """
    kept = weight != 0
    if kept.sum() == kept.any(0).sum() * kept.any(1).sum():
        return None
    share = kept.to(weight)
    for _ in range(_STEPS):
        errors = (weight @ inputs) / (share @ inputs.square()).clamp_min(_TINY)
        after = _unit(((errors @ weight) / (errors.square() @ share).clamp_min(_TINY))[None])[0]
        still, inputs = (after - inputs).norm() <= _STILL, after
        if still:
            break
    errors = (weight @ inputs) / (share @ inputs.square()).clamp_min(_TINY)
    missed = ((weight - errors[:, None] * inputs) * share).norm()
    return (inputs, errors) if missed <= _EXACT * weight.norm() else None


@dataclass(frozen=True)
class Network:
    """What the attacked network says of inputs ``[K, D]``."""

    model: nn.Module
    first: str  # the layer that is given them
    weights: Tensors
    domain: Domain

    def label(self, one: Tensor, gradient: Tensors) -> Tensor:
        """The label ``[1]`` that one victim's captured gradient gives to an input ``[D]``."""
        image = one.view(1, 1, *self.domain.shape)
        return label_images(self.model, self.weights, gradient, image, self.domain.classes)[0]

    def errors(self, inputs: Tensor, label: Tensor) -> Tensor:
        """The gradient of the loss with respect to the first layer's outputs, ``[K, H]``."""
        x = inputs.view(-1, *self.domain.shape).clone().requires_grad_()
        outputs: list[Tensor] = []
        handle = self.model.get_submodule(self.first).register_forward_hook(lambda _, __, out: outputs.append(out))
        try:
            with torch.enable_grad():  # copies, for batch normalisation moves its statistics
                answers = functional_call(self.model, {n: value.clone() for n, value in self.weights.items()}, (x,))
                answers = answers[:, : self.domain.classes]
                loss = cross_entropy(answers, label.expand(len(x)), reduction="sum")
                return torch.autograd.grad(loss, outputs[:1])[0]
        finally:
            handle.remove()


def input_behind(found: RankOne, bias: Tensor, gradient: Tensors, network: Network) -> Tensor:
    """The inputs ``[V, D]``: found up to their norm and sign, which the bias gradient ``[V, H]`` tells.

    Projected on the errors it is their norm, so that ``size`` over it is the input's. Where noise blurs it, two more
    measurements of the norm's logarithm count, each by its precision: that of a picture of uniform pixels, and that
    with which the network itself has errors of the norm that is seen. The latter is left out where it contradicts the
    bias gradient, as under clipping. Where noise leaves the sign open, the network decides it, too.
    """
    told = (found.errors.square() * (bias != 0)).sum(1)  # one, unless a part of the bias gradient was pruned
    along = (found.errors * bias).sum(1) / told.clamp_min(_TINY)
    inputs = found.inputs * torch.where(along < 0, -1.0, 1.0)[:, None]
    # A bias gradient that was pruned away tells nothing.
    blurred, open_ = (
        (~(found.noise <= f * along.abs()) | (along == 0)) & (found.size > 0) for f in (_EXACT, 1 / _SURE)
    )
    exact = inputs * (found.size / along.abs().clamp_min(_TINY))[:, None]
    behind = list(exact)
    for victim in blurred.nonzero()[:, 0].tolist():
        own = {name: g[victim : victim + 1] for name, g in gradient.items()}
        sides = [inputs[victim], -inputs[victim]] if open_[victim] else [inputs[victim]]
        answers = [_at_best_norm(side, found.size[victim], found.noise[victim], own, network) for side in sides]
        behind[victim] = max(answers, key=lambda answer: answer[1])[0]
    return torch.stack(behind)


def goes_with_bias(theirs: Tensor, own: Tensor, noise: Tensor) -> Tensor:
    """Whether a norm of errors that the network has may be ``own``, the bias gradient's: of a clipped one it is not."""
    return (theirs - own).abs() <= _SURE * noise + _NEAR * theirs


def _at_best_norm(
    direction: Tensor, size: Tensor, noise: Tensor, gradient: Tensors, network: Network
) -> tuple[Tensor, float]:
    """The input ``[D]`` of that direction, and how well it explains the gradient: a cosine of units' errors."""
    weight, bias = (gradient[f"{network.first}.{name}"][0] for name in ("weight", "bias"))
    projected, (low, high) = weight @ direction, network.domain.box(size.device)
    expected = 0.5 * (((low.square() + low * high + high.square()) / 3).mean() * len(direction)).log()
    tried = expected + torch.linspace(-3 * _SPREAD, 3 * _SPREAD, _NORMS, device=size.device)
    errors = network.errors(tried.exp()[:, None] * direction, network.label(expected.exp() * direction, gradient))
    off = errors.norm(dim=1).clamp_min(_TINY).log() + tried - size.log()
    nearest = off.abs().argmin()
    by_network = tried[nearest] - off[nearest]  # errors hardly depend on the norm
    theirs, own = size / by_network.exp(), projected @ bias / size  # norms of the bias gradient
    agree = goes_with_bias(theirs, own, noise) | ~bias.any()
    agree &= off[nearest].abs() < _SPREAD
    precisions = torch.stack([
        own.new_tensor(1 / _SPREAD**2),
        (own.clamp_min(0) / noise.clamp_min(_TINY)).square(),
        agree / ((_NETWORKS * noise / theirs).square() + _LEAST**2),
    ])  # fmt: skip
    measured = torch.stack([expected, (size / own.clamp_min(_TINY)).log(), by_network])
    image = direction * ((precisions * measured).sum() / precisions.sum()).exp()
    return image, float(torch.cosine_similarity(errors[nearest], weight @ image + bias, dim=0))


def _sum_of_squares(matrix: Tensor) -> Tensor:
    """In float64, by parts that a cache holds: a copy of the whole takes ten times as long."""
    parts = [torch.linalg.vector_norm(rows, dtype=torch.float64).square() for rows in matrix.split(_ROWS)]
    return torch.stack(parts).sum()


def _times(rows: Tensor, matrix: Tensor) -> Tensor:
    return (rows[:, None] @ matrix)[:, 0]


def _unit(rows: Tensor) -> Tensor:
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True).clamp_min(_TINY)
