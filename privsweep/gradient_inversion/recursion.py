"""The image behind a chain of convolutions, layer by layer from the first dense layer back: no iterations.

Axes: ``V`` victims, ``m`` outputs and ``n`` inputs of a convolution, ``C`` its input channels, ``O`` its filters, ``L``
their places, ``k`` the entries of a kernel in one channel, ``P`` the pixels of a channel of its input. In float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, unfold

from privsweep.gradient_inversion.before_activation import Told, before_activation
from privsweep.gradient_inversion.before_dense import ROUNDING, SUM, BeforeDense, before_dense
from privsweep.gradient_inversion.likely_inputs import Likely, likely_inputs
from privsweep.interface.data import Domain, Tensors
from privsweep.interface.randomness import Rng
from privsweep.model.convolution_chain import Convolution, ConvolutionChain

AT_MOST = 1 << 14  # unknowns of a layer: their squares are stored
_DRAWS = 64  # whose mean square is a variance
_EXACT = 1e-12  # of what was likely before: variances below it count as that, for equations are squared
_AT_ONCE = 1 << 26  # numbers, of the victims that are solved for together
_TINY = 1e-30


@dataclass(frozen=True)
class Behind:
    """What is behind gradients of one example each."""

    images: Tensor  # model inputs [V, C, H, W]
    dense: BeforeDense


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
    behind = before_dense(dense, gradient, chain.dense)
    told = behind.told
    for step, expected in zip(reversed(chain.convolutions), reversed(likely), strict=True):
        weight, bias = weights[f"{step.name}.weight"].double(), weights.get(f"{step.name}.bias")
        shape = expected.mean.shape
        system = _System(step, weight, None if bias is None else bias.double(), shape, rng.child(step.name))
        given, zeroed = gradient[f"{step.name}.weight"].double(), behind.zeroed[f"{step.name}.weight"]
        size = max(1, _AT_ONCE // expected.mean.numel() ** 2)
        parts = []
        for at in torch.arange(len(given), device=given.device).split(size):
            after = before_activation(step.activation, _rows(told, at), expected)
            parts.append(system.solve(after, given[at], behind.noise[at], zeroed[at], expected))
        told = Told(*(torch.cat(values) for values in zip(*parts, strict=True)))
    return Behind(told.value.to(dense), behind)


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

    def solve(self, after: Told, gradient: Tensor, noise: Tensor, zeroed: Tensor, likely: Likely) -> tuple[Tensor, ...]:
        """The fields of what is ``Told`` of the inputs ``[V, C, H, W]``.

        ``after`` is told of the outputs ``[V, O, H, W]``, ``gradient`` is the weight's ``[V, O, C, h, w]``, with
        ``noise`` ``[V]``, and no more than ``zeroed`` ``[V]`` where it is zero.
        """
        victims, channels = len(gradient), self.shape[0]
        value, variance, error, doubt = (t.flatten(1) for t in (after.value, after.variance, after.error, after.doubt))
        mean, before = likely.mean.flatten(), likely.variance.flatten()
        share = self.matrix.square() @ before * _EXACT
        certain = 1 / torch.maximum(variance, share)  # [V, m]
        own = self._of_gradient(error.view(victims, len(gradient[0]), -1))  # [V, O k, P]
        rows = gradient.flatten(3).permute(0, 2, 1, 3).flatten(2)  # [V, C, O k]
        off = self._variance(rows, own, doubt, noise, zeroed, likely)
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
        self, rows: Tensor, own: Tensor, doubt: Tensor, noise: Tensor, zeroed: Tensor, likely: Likely
    ) -> Tensor:
        """Of each of the gradient's entries ``[V, C, O k]``, by noise, rounding, pruning and what errors are off."""
        filters = own.shape[1] // len(self.pixel)
        pruned = torch.where(rows == 0, zeroed.square()[:, None, None] / 3, 0)
        size = (likely.mean.square() + likely.variance).mean((1, 2))  # of an input, squared, by channel
        wrong = doubt.view(len(rows), filters, -1).sum(2).repeat_interleave(len(self.pixel), 1)
        largest = rows.abs().amax((1, 2), keepdim=True)
        rounding = (ROUNDING * rows).square() + (SUM * largest).square()
        off = pruned + rounding + noise.square()[:, None, None] + wrong[:, None] * size[:, None]
        scale = own.square() @ likely.variance.flatten(1).mT  # [V, O k, C]
        return torch.maximum(off, _EXACT * scale.mT).clamp_min(_TINY**2)


def _rows(told: Told, at: Tensor) -> Told:
    return Told(told.value[at], told.variance[at], told.error[at], told.doubt[at])
