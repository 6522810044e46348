"""How convolutions take part in gradient matching (see ``weight_rules``)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, fold, pad

from privsweep.weight_rules import Dense


@dataclass(frozen=True)
class Sliding:
    """How a convolution's window moves."""

    stride: tuple[int, int]
    padding: tuple[int, int]


class Conv(Dense):
    """``nn.Conv2d`` as a matrix product with image patches, one a row.

    A patch, and so a row of the residual, is ordered ``kh, kw, C``, which gathers the fastest; columns that
    are to be summed back into an image have PyTorch's order ``C, kh, kw``.
    """

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

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        out = conv2d(a, self.weight, self.bias, self.sliding.stride, self.sliding.padding)
        self.output = out.shape
        self.a = self._patches(a)
        return out

    def _patches(self, a: Tensor) -> Tensor:
        (kh, kw), (sh, sw), (ph, pw) = self.weight.shape[2:], self.sliding.stride, self.sliding.padding
        framed = pad(a.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        windows = framed.unfold(1, kh, sh).unfold(2, kw, sw)  # [V * B, h, w, C, kh, kw]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(self.victims, -1, kh * kw * a.shape[1])

    def observe(self, d: Tensor, overlap: bool) -> tuple[Tensor, Tensor | None]:
        by_victim = d.reshape(self.victims, -1, d.shape[1], d[0, 0].numel()).transpose(1, 2)
        return self._residual(by_victim.flatten(2), overlap)

    def backward(self, d: Tensor) -> Tensor:
        stride, padding = self.sliding.stride, self.sliding.padding
        return torch.ops.aten.convolution_backward(
            d, self.input, self.weight, None, stride, padding, [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]

    def start_tangent(self) -> Tensor:
        n, _, height, width = self.output
        by_victim = self._tangent().unflatten(2, (n // self.victims, height, width))
        return by_victim.transpose(1, 2).reshape(self.output)

    def tangent_forward(self, t: Tensor) -> Tensor:
        moved = conv2d(t, self.weight, None, self.sliding.stride, self.sliding.padding)
        return moved.add_(self.start_tangent())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        _, inputs, height, width = self.input.shape
        outputs, _, kh, kw = self.weight.shape
        v = self.v.view(-1, outputs, kh * kw, inputs).transpose(2, 3).flatten(2)
        along = torch.bmm(v.mT, self.d).unflatten(2, (-1, dt[0, 0].numel())).transpose(1, 2).flatten(0, 1)
        columns = along.baddbmm_(self.weight.flatten(1).mT.expand(len(dt), -1, -1), dt.flatten(2))
        return fold(columns, (height, width), (kh, kw), 1, self.sliding.padding, self.sliding.stride)

    def take(self, rows: Tensor) -> Conv:
        return Conv(self.weight, self.bias, *self._goals(rows), self.sliding, self.kept)
