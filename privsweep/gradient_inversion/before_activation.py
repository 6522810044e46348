"""What an elementwise layer was given, of what is known of its output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privsweep.gradient_inversion.likely_inputs import Likely

_FAR, _HALVINGS = 1e3, 80  # where an activation is looked for, and how often a range is halved
_DIGITS = 12  # how near to what gives an output its likeliest input is looked for first
_NODES, _REACH = 129, 6.0  # of a density, and as many deviations from its middle
_RARE = 0.01  # probability on either side that does not count: of a unit, for one, to be barely on
_TINY = 1e-30


@dataclass(frozen=True)
class Told:
    """What is known of a layer's inputs or outputs, ``[V, ...]``: values, gradients of the loss, and their variances.

    A value that nothing is known of has infinite variance.
    """

    value: Tensor
    variance: Tensor
    error: Tensor
    doubt: Tensor


def before_activation(layer: nn.Module, after: Told, likely: Likely) -> Told:
    """The inputs of an increasing elementwise layer.

    Bayes' rule, of each by itself: what pictures bring, and what is known of the output, give a density, of which mean
    and variance stand for it (assumed density filtering: Minka, "Expectation propagation", UAI 2001). What pictures
    bring is divided out again, for it counts where the layer before is solved for. So an output tells the less the
    flatter the layer is there, and one of nothing but that an input is negative, as of ReLU, tells that.
    """
    shape, usual, spread = likely.output.shape, likely.output, likely.output_variance
    value, variance, error, doubt = (
        t.view(-1, *shape) for t in (after.value, after.variance, after.error, after.doubt)
    )
    at = _likeliest(layer, value, variance, usual.expand_as(value), spread)
    deviation = (1 / (_slope(layer, at).square() / variance + 1 / spread)).sqrt()
    reach = ((_REACH * spread.sqrt() + (at - usual).abs()) / deviation).asinh()
    nodes = reach * torch.linspace(-1, 1, _NODES).to(value).view(-1, *[1] * value.dim())
    off = nodes.sinh() * deviation  # close together in the middle
    cost = (value - layer(at + off)).square() / variance + (at + off - usual).square() / spread
    weight = nodes.cosh() * ((cost.amin(0) - cost) / 2).exp()
    weight = weight / weight.sum(0)
    up_to = weight.cumsum(0)
    weight = torch.where((up_to > _RARE) & (up_to - weight < 1 - _RARE), weight, 0)
    weight = weight / weight.sum(0)
    mean = (weight * off).sum(0)
    left = (weight * (off - mean).square()).sum(0)
    told = 1 / (1 / left - 1 / spread)
    told = torch.where(told > 0, told, torch.inf)
    middle = at + mean
    slopes = _slope(layer, at + off)
    slope = (weight * slopes).sum(0)
    turned = (weight * (slopes - slope).square()).sum(0)
    return Told(
        torch.where(told.isinf(), middle, middle + (middle - usual) * told / spread),
        told,
        slope * error,
        slope.square() * doubt + turned * error.square(),
    )


def _likeliest(layer: nn.Module, value: Tensor, variance: Tensor, usual: Tensor, spread: Tensor) -> Tensor:
    """The input ``[V, ...]`` that an output of that variance and what is usual, of that ``spread``, make likeliest."""
    low, high = torch.full_like(value, -_FAR), torch.full_like(value, _FAR)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        less = layer(middle) < value
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    # Of several such inputs halving would find any; the best of these is next to the best of all.
    shares = torch.cat((value.new_zeros(1), torch.logspace(-_DIGITS, 0, 4 * _DIGITS + 1).to(value)))
    tried = high + shares.view(-1, *[1] * value.dim()) * (usual - high)
    cost = (value - layer(tried)).square() / variance + (tried - usual).square() / spread
    best = cost.argmin(0, keepdim=True)
    far, near = (tried.gather(0, (best + k).clamp(0, len(shares) - 1))[0] for k in (-1, 1))
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        pull = (value - layer(middle)) * _slope(layer, middle) / variance - (middle - usual) / spread
        on = pull * (far - near) > 0
        near, far = torch.where(on, middle, near), torch.where(on, far, middle)
    return (near + far) / 2


def _slope(layer: nn.Module, at: Tensor) -> Tensor:
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        return torch.autograd.grad(layer(at).sum(), at)[0]
