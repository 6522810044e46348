"""The image behind a chain of convolutions, layer by layer from the first dense layer back: no iterations.

Axes: ``V`` victims, ``m`` outputs and ``n`` inputs of a convolution, ``C`` its input channels, ``O`` its filters, ``L``
their places, ``k`` the entries of a kernel in one channel, ``P`` the pixels of a channel of its input. In float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, unfold

from privsweep.gradient_inversion.likely_inputs import Likely, likely_inputs
from privsweep.gradient_inversion.output_errors import output_errors
from privsweep.gradient_inversion.rank_one import nearest_rank_one
from privsweep.interface.data import Domain, Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.convolution_chain import Convolution, ConvolutionChain

AT_MOST = 1 << 14  # unknowns of a layer: their squares are stored
_DRAWS = 64  # whose mean square is a variance
_ROUNDING = 1e-7  # of a number
_SUM = 1e-8  # of the largest of its kind, by which sums are off
_EXACT = 1e-12  # of what was likely before: variances below it count as that, for equations are squared
_SURE = 4.0  # deviations
_FAR, _HALVINGS = 1e3, 80  # where an activation is looked for, and how often the range is halved
_AT_ONCE = 1 << 26  # numbers, of the victims that are solved for together
_TINY = 1e-30


@dataclass(frozen=True)
class Behind:
    """What is behind gradients of one example each."""

    images: Tensor  # model inputs [V, C, H, W]
    errors: Tensor  # of the dense layer's outputs, [V, K]
    doubt: Tensor  # [V, K], their deviations
    noise: Tensor  # [V], the deviation of an entry's of the gradient


@dataclass(frozen=True)
class Told:
    """What is known of a layer's inputs or outputs, ``[V, ...]``: values, gradients of the loss, and their variances.

    A value that nothing is known of has infinite variance.
    """

    value: Tensor
    variance: Tensor
    error: Tensor
    doubt: Tensor


def recursion(chain: ConvolutionChain, weights: Tensors, gradient: Tensors, domain: Domain, rng: Rng) -> Behind:
    """What is behind gradients ``[V, ...]`` of one example each.

    A dense layer's weight gradient is errors times input, its bias gradient the errors: they tell the input, and the
    gradient of the loss with respect to it, whatever is behind. Of a convolution whose output and errors are known two
    systems of equations are linear in its input: what it answers, and its own weight's gradient, which is the sum over
    places of error times patch. So from layer to layer (Zhu and Blaschko, "R-GAP", ICLR 2021, section 3; that the first
    dense layer will do: ours).

    Ours, too: an equation counts by how sure it is. Rounding, noise on the gradient, what a saturated activation hides
    and what was pruned all leave variances, which pass on from layer to layer; where equations are too few, what random
    pictures make likely decides.
    """
    likely = likely_inputs(chain, weights, domain, rng)
    dense = weights[f"{chain.dense}.weight"]
    below = pruned_below(gradient)
    told, errors, doubt, noise = _before_dense(dense, gradient, below[f"{chain.dense}.weight"], chain.dense)
    for step, expected in zip(reversed(chain.convolutions), reversed(likely), strict=True):
        weight, bias = weights[f"{step.name}.weight"].double(), weights.get(f"{step.name}.bias")
        shape = expected.mean.shape
        system = _System(step, weight, None if bias is None else bias.double(), shape, rng.child(step.name))
        told = _before_activation(step.activation, told, system.outputs)
        given, least = gradient[f"{step.name}.weight"].double(), below[f"{step.name}.weight"]
        size = max(1, _AT_ONCE // expected.mean.numel() ** 2)
        parts = [
            system.solve(_rows(told, at), given[at], noise[at], least[at], expected)
            for at in torch.arange(len(given), device=given.device).split(size)
        ]
        told = Told(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return Behind(told.value.to(dense), errors.to(dense), doubt.to(dense), noise.to(dense))


def pruned_below(gradient: Tensors) -> Tensors:
    """Float64 ``[V]`` by name: no entry that was made zero was larger.

    It is the least that is left of a parameter, and of the whole gradient where of that nothing is.
    """
    kept = {n: torch.where(g == 0, torch.inf, g.double().abs()).flatten(1).amin(1) for n, g in gradient.items()}
    least = torch.stack(list(kept.values())).amin(0)
    return {name: torch.where(own.isfinite(), own, least).nan_to_num(0, 0, 0) for name, own in kept.items()}


def _before_dense(weight: Tensor, gradient: Tensors, below: Tensor, name: str) -> tuple[Told, Tensor, Tensor, Tensor]:
    """What a linear layer was given, ``[V, n]``, its errors and their deviations ``[V, K]``, and the noise's ``[V]``.

    A row or column that was pruned altogether leaves an error or an input anywhere below what else would be left.
    """
    rows, sent, matrix = gradient[f"{name}.weight"].double(), gradient.get(f"{name}.bias"), weight.double()
    bias = output_errors(rows, matrix) if sent is None else sent.double()
    found = nearest_rank_one(rows, bias)
    along = (found.errors * bias).sum(1, keepdim=True)  # the errors' norm: what noise has left of it
    along = torch.where(along.abs() < _TINY, _TINY, along)
    value = found.inputs * found.size[:, None] / along
    norm = value.norm(dim=1, keepdim=True).clamp_min(_TINY)
    noise = torch.maximum(found.noise, _SUM * rows.abs().amax((1, 2)))
    no_row, no_column = (rows == 0).all(2), (rows == 0).all(1)
    errors = torch.where(no_row, bias, found.errors * along)
    of_input, of_error = (below[:, None] / t.abs().amax(1, keepdim=True).clamp_min(_TINY) for t in (errors, value))
    variance = (noise[:, None] / along).square() + (_ROUNDING * value).square() + no_column * of_input.square() / 3
    spread = (noise[:, None] / norm).square() + (no_row & (bias == 0)) * of_error.square() / 3
    error = errors @ matrix
    doubt = spread @ matrix.square() + (_ROUNDING * error).square()
    return Told(value, variance, error, doubt), errors, spread.sqrt(), noise


def _before_activation(layer: nn.Module, after: Told, shape: torch.Size) -> Told:
    """The inputs of an increasing elementwise layer. Where it is flat to within what is known, nothing is told."""
    value, variance, error, doubt = (
        t.view(-1, *shape) for t in (after.value, after.variance, after.error, after.doubt)
    )
    sure = _SURE * variance.sqrt()
    ends = torch.tensor([-_FAR, _FAR], dtype=value.dtype, device=value.device)
    least, most = layer(ends)
    inside = (value > least + sure) & (value < most - sure)
    low, high = ends[0].expand_as(value), ends[1].expand_as(value)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        less = layer(middle) < value
        low, high = torch.where(less, middle, low), torch.where(less, high, middle)
    slope, bend = _derivatives(layer, high)
    slope = torch.where(inside, slope, 0)
    spread = variance / slope.square().clamp_min(_TINY)
    turned = torch.where(inside, bend.square() * spread, 0)  # the variance of the slope
    spread = torch.where(slope > 0, spread, torch.inf)
    return Told(high, spread, slope * error, slope.square() * doubt + turned * error.square())


def _derivatives(layer: nn.Module, at: Tensor) -> tuple[Tensor, Tensor]:
    """Of an elementwise layer, the first and the second."""
    with torch.enable_grad():
        at = at.detach().requires_grad_()
        [first] = torch.autograd.grad(layer(at).sum(), at, create_graph=True)
        second = torch.autograd.grad(first.sum(), at)[0] if first.requires_grad else torch.zeros_like(at)
    return first.detach(), second.detach()


class _System:
    """The equations of a convolution of inputs of one ``shape`` ``[C, H, W]``."""

    def __init__(self, step: Convolution, weight: Tensor, bias: Tensor | None, shape: torch.Size, rng: Rng):
        count, sides = shape.numel(), shape[1:]
        layer, padding = step.layer, step.padding
        every = torch.eye(count, dtype=weight.dtype, device=weight.device).view(count, *shape)
        answers = conv2d(every, weight, None, layer.stride, padding, layer.dilation)
        self.shape, self.outputs = shape, answers.shape[1:]
        self.draws = torch.randn(count, _DRAWS, generator=rng.generator()).to(weight)  # of what is left open
        self.matrix = answers.flatten(1).mT.contiguous()  # [m, n]
        self.offset = bias.repeat_interleave(self.outputs[1:].numel()) if bias is not None else 0
        numbers = torch.arange(1, sides.numel() + 1, dtype=weight.dtype, device=weight.device).view(1, 1, *sides)
        patches = unfold(numbers, layer.kernel_size, layer.dilation, padding, layer.stride)[0]
        self.pixel = patches.long() - 1  # [k, L], -1 around the image
        rows = torch.where(self.pixel < 0, -1, self.pixel // sides[1]).view(len(patches), self.outputs[1], -1)
        last = rows.amax((0, 2))
        self.window = torch.stack((torch.where(rows < 0, sides[0], rows).amin((0, 2)), last + 1), 1).tolist()

    def solve(self, after: Told, gradient: Tensor, noise: Tensor, least: Tensor, likely: Likely) -> tuple[Tensor, ...]:
        """The fields of what is ``Told`` of the inputs ``[V, C, H, W]``.

        ``after`` is told of the outputs ``[V, O, H, W]``, ``gradient`` is the weight's ``[V, O, C, h, w]``, with
        ``noise`` ``[V]``, and what is pruned of it below the ``least`` ``[V]``.
        """
        victims, channels = len(gradient), self.shape[0]
        value, variance, error, doubt = (t.flatten(1) for t in (after.value, after.variance, after.error, after.doubt))
        mean, before = likely.mean.flatten(), likely.variance.flatten()
        share = self.matrix.square() @ before * _EXACT
        certain = 1 / torch.maximum(variance, share)  # [V, m]
        own = self._of_gradient(error.view(victims, len(gradient[0]), -1))  # [V, O k, P]
        rows = gradient.flatten(3).permute(0, 2, 1, 3).flatten(2)  # [V, C, O k]
        off = self._variance(rows, own, doubt, noise, least, likely)
        normal = self._squares(certain)
        for channel, block in enumerate(normal.unflatten(1, (channels, -1)).unflatten(3, (channels, -1)).unbind(1)):
            block[:, :, channel] += own.mT @ (own / off[:, channel, :, None])
        normal += likely.precision
        factor = torch.linalg.cholesky(normal)
        del normal
        found = mean.expand(victims, -1)
        for _ in range(2):  # the second time for what rounding left
            left = value - self.offset - found @ self.matrix.mT
            apart = (rows - found.view(victims, channels, -1) @ own.mT) / off
            wanted = (certain * left) @ self.matrix + (apart @ own).flatten(1) + (mean - found) @ likely.precision
            found = found + torch.cholesky_solve(wanted[:, :, None], factor)[:, :, 0]
        left = torch.linalg.solve_triangular(factor.mT, self.draws.expand(victims, -1, -1), upper=True).square().mean(2)
        told = (found, left, error @ self.matrix, doubt @ self.matrix.square())
        return tuple(t.view(victims, *self.shape) for t in told)

    def _squares(self, certain: Tensor) -> Tensor:
        """The outputs' equations, squared, ``[V, n, n]``: row by row of outputs, which see few rows of inputs."""
        normal = certain.new_zeros(len(certain), *self.shape, *self.shape)
        matrix, certain = self.matrix.view(*self.outputs, *self.shape), certain.view(-1, *self.outputs)
        for row, (first, last) in enumerate(self.window):
            seen = matrix[:, row, :, :, first:last]
            part = seen.flatten(2).flatten(0, 1)
            square = part.mT @ (certain[:, :, row].flatten(1)[:, :, None] * part)
            normal[:, :, first:last, :, :, first:last] += square.view(-1, *seen.shape[2:], *seen.shape[2:])
        return normal.view(len(normal), self.shape.numel(), -1)

    def _of_gradient(self, error: Tensor) -> Tensor:
        """What makes the gradient of one channel's weights out of its pixels, ``[V, O k, P]``; errors ``[V, O, L]``."""
        victims, filters = error.shape[:2]
        entries, pixels = len(self.pixel), self.shape[1:].numel()
        made = error.new_zeros(victims, filters, entries, pixels + 1)  # the last for what lies around the image
        into = torch.where(self.pixel < 0, pixels, self.pixel).expand(victims, filters, -1, -1)
        made.scatter_add_(3, into, error[:, :, None].expand(-1, -1, entries, -1))
        return made[..., :pixels].flatten(1, 2)

    def _variance(
        self, rows: Tensor, own: Tensor, doubt: Tensor, noise: Tensor, least: Tensor, likely: Likely
    ) -> Tensor:
        """Of each of the gradient's entries ``[V, C, O k]``, by noise, rounding, pruning and what errors are off."""
        filters = own.shape[1] // len(self.pixel)
        pruned = torch.where(rows == 0, least.square()[:, None, None] / 3, 0)
        size = (likely.mean.square() + likely.variance).mean((1, 2))  # of an input, squared, by channel
        wrong = doubt.view(len(rows), filters, -1).sum(2).repeat_interleave(len(self.pixel), 1)
        largest = rows.abs().amax((1, 2), keepdim=True)
        rounding = (_ROUNDING * rows).square() + (_SUM * largest).square()
        off = pruned + rounding + noise.square()[:, None, None] + wrong[:, None] * size[:, None]
        scale = own.square() @ likely.variance.flatten(1).mT  # [V, O k, C]
        return torch.maximum(off, _EXACT * scale.mT).clamp_min(_TINY**2)


def _rows(told: Told, at: Tensor) -> Told:
    return Told(told.value[at], told.variance[at], told.error[at], told.doubt[at])
