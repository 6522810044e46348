"""How convolutions take part in gradient matching (see ``weight_rules``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import conv2d, fold, pad

from privsweep.gradient_inversion.engine.low_rank import Matrices
from privsweep.gradient_inversion.engine.rule_dense import Dense, Gram


@dataclass(frozen=True)
class Sliding:
    """How a convolution's window moves.

    A patch under it, and so a row of the weight's gradient, is ordered ``kh, kw, C``, which gathers the fastest;
    columns that are to be summed back into an image have PyTorch's order ``C, kh, kw``.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]

    def patches(self, a: Tensor, victims: int) -> Tensor:
        """Of ``[V * B, C, H, W]``: ``[V, n, kh * kw * C]``, one for each of the n places in a victim's images."""
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        framed = pad(a.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        windows = framed.unfold(1, kh, sh).unfold(2, kw, sw)  # [V * B, h, w, C, kh, kw]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(victims, -1, kh * kw * a.shape[1])

    def sum_columns(self, columns: Tensor, size: tuple[int, int]) -> Tensor:
        """Images ``[V * B, C, *size]`` from ``[V * B, C * kh * kw, places]``."""
        return fold(columns, size, self.kernel, 1, self.padding, self.stride)

    def convolve(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return conv2d(a, weight, bias, self.stride, self.padding)

    def pull_back(self, d: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """The gradient with respect to the input ``a`` from that with respect to the output."""
        return self._backward(d, a, weight, [True, False, False])[0]

    def by_weight(self, d: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """The gradient with respect to ``weight``."""
        return self._backward(d, a, weight, [False, True, False])[1]

    def _backward(self, d: Tensor, a: Tensor, weight: Tensor, asked: list[bool]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            d, a, weight, None, self.stride, self.padding, [1, 1], False, [0, 0], 1, asked
        )
        return found

    def rows(self, gradient: Tensor) -> Tensor:
        """A weight's gradient ``[V, outputs, C, kh, kw]`` as matrices ``[V, outputs, kh * kw * C]``."""
        return gradient.permute(0, 1, 3, 4, 2).flatten(2).contiguous()


class DenseConv(Dense):
    """``nn.Conv2d`` whose residual is formed."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        target_bias: Tensor | None,
        sliding: Sliding,
        kept: bool = False,
    ):
        super().__init__(weight, bias, target, target_bias, kept)
        self.sliding = sliding

    def take(self, rows: Tensor) -> Self:
        return type(self)(self.weight, self.bias, *self._goals(rows), self.sliding, self.kept)


class Conv(DenseConv):
    """``nn.Conv2d`` as a matrix product with image patches, one a row."""

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        out = self.sliding.convolve(a, self.weight, self.bias)
        self.output = out.shape
        self.a = self.sliding.patches(a, self.victims)
        return out

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        by_victim = d.reshape(self.victims, -1, d.shape[1], d[0, 0].numel()).transpose(1, 2)
        return self._residual(by_victim.flatten(2), overlap)

    def backward(self, d: Tensor) -> Tensor:
        return self.sliding.pull_back(d, self.input, self.weight)

    def start_tangent(self) -> Tensor:
        n, _, height, width = self.output
        by_victim = self._tangent().unflatten(2, (n // self.victims, height, width))
        return by_victim.transpose(1, 2).reshape(self.output)

    def tangent_forward(self, t: Tensor) -> Tensor:
        moved = self.sliding.convolve(t, self.weight)
        return moved.add_(self.start_tangent())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        _, inputs, height, width = self.input.shape
        outputs, _, kh, kw = self.weight.shape
        v = self.v.view(-1, outputs, kh * kw, inputs).transpose(2, 3).flatten(2)
        along = torch.bmm(v.mT, self.d).unflatten(2, (-1, dt[0, 0].numel())).transpose(1, 2).flatten(0, 1)
        columns = along.baddbmm_(self.weight.flatten(1).mT.expand(len(dt), -1, -1), dt.flatten(2))
        return self.sliding.sum_columns(columns, (height, width))


class LargeConv(DenseConv):
    """``nn.Conv2d`` on so much a victim that its residual and direction are convolutions, one victim after the other.

    There are no patches. Captured gradients are ``[V, outputs, C * kh * kw]``.
    """

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        return self.sliding.convolve(a, self.weight, self.bias)

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        self.d = d
        each = [self.sliding.by_weight(d_v, a_v, self.weight) for d_v, a_v in self._each(d, self.a)]
        e = torch.stack(each).flatten(2).sub_(self.target)
        return self._compare(e, d.unflatten(0, (self.victims, -1)), (1, 3, 4), overlap)

    def _each(self, *batches: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Victim by victim."""
        return zip(*(batch.chunk(self.victims) for batch in batches), strict=True)

    def backward(self, d: Tensor) -> Tensor:
        return self.sliding.pull_back(d, self.a, self.weight)

    def start_tangent(self) -> Tensor:
        biases: Sequence[Tensor | None] = [None] * self.victims if self.target_bias is None else list(self.v_bias)
        return torch.cat(
            [
                self.sliding.convolve(a, v.view_as(self.weight), b)
                for (a,), v, b in zip(self._each(self.a), self.v, biases, strict=True)
            ]
        )

    def tangent_forward(self, t: Tensor) -> Tensor:
        return self.sliding.convolve(t, self.weight).add_(self.start_tangent())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        along = [
            self.sliding.pull_back(d, a, v.view_as(self.weight))
            for (d, a), v in zip(self._each(self.d, self.a), self.v, strict=True)
        ]
        return torch.cat(along).add_(self.sliding.pull_back(dt, self.a, self.weight))


class GramConv(Gram):
    """``nn.Conv2d`` with few places in an image: the patches under them, one a row, are far fewer than filters."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, target: Matrices, target_bias: Tensor | None, sliding: Sliding
    ):
        super().__init__(weight, bias, target, target_bias)
        self.sliding = sliding

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        out = self.sliding.convolve(a, self.weight, self.bias)
        self.output = out.shape
        self.a = self.sliding.patches(a, self.victims).double()
        return out

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        by_place = d.flatten(2).mT.reshape(self.victims, -1, d.shape[1])
        return self._residual(by_place.double(), overlap)

    def backward(self, d: Tensor) -> Tensor:
        return self.sliding.pull_back(d, self.input, self.weight)

    def start_tangent(self) -> Tensor:
        n, outputs, height, width = self.output
        return self.v_a.view(n, height * width, outputs).mT.reshape(self.output)

    def tangent_forward(self, t: Tensor) -> Tensor:
        moved = self.sliding.convolve(t, self.weight)
        return moved.add_(self.start_tangent())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        n, inputs, height, width = self.input.shape
        columns = self.v_d.view(n, dt[0, 0].numel(), -1, inputs).permute(0, 3, 2, 1).flatten(1, 2)
        along = self.sliding.sum_columns(columns, (height, width))
        return along.add_(self.sliding.pull_back(dt, self.input, self.weight))

    def take(self, rows: Tensor) -> GramConv:
        return GramConv(self.weight, self.bias, *self._goals(rows), self.sliding)
