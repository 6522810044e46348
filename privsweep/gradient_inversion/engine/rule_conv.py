"""How convolutions take part in gradient matching (see ``rule_dense``), and which rule a convolution gets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from privsweep.compiled.convolution import VictimConvolution, compiled_for
from privsweep.gradient_inversion.engine.distance import Products
from privsweep.gradient_inversion.engine.low_rank import Matrices, low_rank_or_whole
from privsweep.gradient_inversion.engine.rule_activation import Rule
from privsweep.gradient_inversion.engine.rule_dense import Dense, Gram
from privsweep.gradient_inversion.engine.rule_unmatched import UnmatchedConv
from privsweep.gradient_inversion.engine.window import Window, window_of
from privsweep.interface.data import Tensors

# Measured on one CPU core with scripts/thresholds.py; not measured on a GPU, where they may lie elsewhere.
# Gram matrices where filters, and inputs of a filter, are this many times as many as positions: against patches 0.7 to
# 1.0 times as fast at 2, 0.9 to 1.6 times at 4, 1.3 to 8 times at 8 and 16.
FEW = 4
# Against compiled code 0.6 to 0.8 times as fast at 4, 0.8 to 1.5 at 8, 1.1 to 2.1 at 16.
FEW_COMPILED = 8
# Victim by victim from this many entries in a victim's patches: 0.9 to 1.5 times as fast at 2**17, 1.4 to 3.3 times at
# 2**19, 2.3 to 3.6 times at 2**22; against compiled code 0.5 to 1.1 times below, 0.8 to 2 times from there.
MANY_PATCH_ENTRIES = 2**18
# And from this many channels: with one or three the times are 0.8 to 1.3, whatever the entries.
DEEP = 8


class DenseConv(Dense):
    """``nn.Conv2d`` whose residual is formed."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        target_bias: Tensor | None,
        window: Window,
        only_nonzero: bool = False,
    ):
        super().__init__(weight, bias, target, target_bias, only_nonzero)
        self.window = window

    def take(self, rows: Tensor) -> Self:
        return type(self)(self.weight, self.bias, *self._targets(rows), self.window, self.only_nonzero)


class PatchConv(DenseConv):
    """``nn.Conv2d`` as a matrix product with image patches, one per row."""

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        out = self.window.convolve(a, self.weight, self.bias)
        self.output = out.shape
        self.a = self.window.patches(a, self.victims)
        return out

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        by_victim = d.reshape(self.victims, -1, d.shape[1], d[0, 0].numel()).transpose(1, 2)
        return self._residual(by_victim.flatten(2), with_dot)

    def backward(self, d: Tensor) -> Tensor:
        return self.window.pull_back(d, self.input, self.weight)

    def direction_times_input(self) -> Tensor:
        n, _, height, width = self.output
        by_victim = self._tangent().unflatten(2, (n // self.victims, height, width))
        return by_victim.transpose(1, 2).reshape(self.output)

    def tangent_forward(self, t: Tensor) -> Tensor:
        moved = self.window.convolve(t, self.weight)
        return moved.add_(self.direction_times_input())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        _, inputs, height, width = self.input.shape
        outputs, _, kh, kw = self.weight.shape
        v = self.v.view(-1, outputs, kh * kw, inputs).transpose(2, 3).flatten(2)
        along = torch.bmm(v.mT, self.d).unflatten(2, (-1, dt[0, 0].numel())).transpose(1, 2).flatten(0, 1)
        columns = along.baddbmm_(self.weight.flatten(1).mT.expand(len(dt), -1, -1), dt.flatten(2))
        return self.window.sum_columns(columns, (height, width))


class CompiledConv(DenseConv):
    """``nn.Conv2d`` by compiled code, in which a victim's own weights cost no more than those that all share.

    Captured gradients are ``[V, outputs, C * kh * kw]``.
    """

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        sizes = (self.victims, len(a) // self.victims, a.shape[1:], self.weight.shape)
        self.convolution = VictimConvolution(*sizes, self.window.stride, self.window.padding)
        return self.convolution.forward((a, self.weight), bias=self.bias)

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        self.d = d

        def into(out: Tensor) -> None:
            self.convolution.residual(self.a, d, self.target, out)

        return self._compare(into, d.unflatten(0, (self.victims, -1)), (1, 3, 4), with_dot)

    def backward(self, d: Tensor) -> Tensor:
        return self.convolution.pull_back((d, self.weight))

    def direction_times_input(self) -> Tensor:
        return self.convolution.forward(None, (self.a, self.v), self.v_bias)

    def tangent_forward(self, t: Tensor) -> Tensor:
        return self.convolution.forward((t, self.weight), (self.a, self.v), self.v_bias)

    def tangent_backward(self, dt: Tensor) -> Tensor:
        return self.convolution.pull_back((dt, self.weight), (self.d, self.v))


class VictimwiseConv(DenseConv):
    """``nn.Conv2d`` without patches: residual and direction are convolutions, one victim after the other.

    Captured gradients are ``[V, outputs, C * kh * kw]``.
    """

    def forward(self, a: Tensor) -> Tensor:
        self.a = a
        return self.window.convolve(a, self.weight, self.bias)

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        self.d = d
        each = [self.window.by_weight(d_v, a_v, self.weight) for d_v, a_v in self._each(d, self.a)]

        def into(out: Tensor) -> None:
            torch.sub(torch.stack(each).flatten(2), self.target, out=out)

        return self._compare(into, d.unflatten(0, (self.victims, -1)), (1, 3, 4), with_dot)

    def _each(self, *batches: Tensor) -> Iterator[tuple[Tensor, ...]]:
        """Victim by victim."""
        return zip(*(batch.chunk(self.victims) for batch in batches), strict=True)

    def backward(self, d: Tensor) -> Tensor:
        return self.window.pull_back(d, self.a, self.weight)

    def direction_times_input(self) -> Tensor:
        biases: Sequence[Tensor | None] = [None] * self.victims if self.v_bias is None else list(self.v_bias)
        return torch.cat(
            [
                self.window.convolve(a, v.view_as(self.weight), b)
                for (a,), v, b in zip(self._each(self.a), self.v, biases, strict=True)
            ]
        )

    def tangent_forward(self, t: Tensor) -> Tensor:
        return self.window.convolve(t, self.weight).add_(self.direction_times_input())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        along = [
            self.window.pull_back(d, a, v.view_as(self.weight))
            for (d, a), v in zip(self._each(self.d, self.a), self.v, strict=True)
        ]
        return torch.cat(along).add_(self.window.pull_back(dt, self.a, self.weight))


class GramConv(Gram):
    """``nn.Conv2d`` with few positions in an image: their patches, one per row, are far fewer than the filters."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, target: Matrices, target_bias: Tensor | None, window: Window
    ):
        super().__init__(weight, bias, target, target_bias)
        self.window = window

    def forward(self, a: Tensor) -> Tensor:
        self.input = a
        out = self.window.convolve(a, self.weight, self.bias)
        self.output = out.shape
        self.a = self.window.patches(a, self.victims).double()
        return out

    def compare_with_target(self, d: Tensor, with_dot: bool) -> Products:
        by_position = d.flatten(2).mT.reshape(self.victims, -1, d.shape[1])
        return self._residual(by_position.double(), with_dot)

    def backward(self, d: Tensor) -> Tensor:
        return self.window.pull_back(d, self.input, self.weight)

    def direction_times_input(self) -> Tensor:
        n, outputs, height, width = self.output
        return self.v_a.view(n, height * width, outputs).mT.reshape(self.output)

    def tangent_forward(self, t: Tensor) -> Tensor:
        moved = self.window.convolve(t, self.weight)
        return moved.add_(self.direction_times_input())

    def tangent_backward(self, dt: Tensor) -> Tensor:
        n, inputs, height, width = self.input.shape
        columns = self.v_d.view(n, dt[0, 0].numel(), -1, inputs).permute(0, 3, 2, 1).flatten(1, 2)
        along = self.window.sum_columns(columns, (height, width))
        return along.add_(self.window.pull_back(dt, self.input, self.weight))

    def take(self, rows: Tensor) -> GramConv:
        return GramConv(self.weight, self.bias, *self._targets(rows), self.window)


def kind_of(
    layer: nn.Conv2d, positions: int, only_nonzero: bool, device: torch.device, dtype: torch.dtype
) -> type[DenseConv | GramConv]:
    """The fastest rule for a convolution whose window takes ``positions`` in a victim's batch."""
    outputs, inputs = layer.weight.shape[0], layer.weight[0].numel()
    window = window_of(layer)
    if window is None or not window.has_patches:
        return VictimwiseConv
    in_c = compiled_for(device, dtype)
    if not only_nonzero and (FEW_COMPILED if in_c else FEW) * positions <= min(outputs, inputs):
        return GramConv
    if positions * inputs >= MANY_PATCH_ENTRIES and layer.weight.shape[1] >= DEEP:
        return VictimwiseConv
    return CompiledConv if in_c else PatchConv


def conv_rule(
    name: str, layer: nn.Conv2d, weights: Tensors, target: Tensors, positions: int, only_nonzero: bool
) -> Rule | None:
    """The fastest rule for the convolution ``name``, whose window takes ``positions`` in a victim's batch.

    None for one that is padded by anything but zeros, or unevenly, or of which the bias alone is matched.
    """
    window = window_of(layer)
    if window is None:
        return None
    weight, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    if f"{name}.weight" not in target:
        return None if f"{name}.bias" in target else UnmatchedConv(weight, bias, window)
    captured, captured_bias = target[f"{name}.weight"], target.get(f"{name}.bias")
    kind = kind_of(layer, positions, only_nonzero, weight.device, weight.dtype)
    if issubclass(kind, GramConv):
        return GramConv(weight, bias, low_rank_or_whole(window.rows(captured), positions), captured_bias, window)
    laid_out = window.rows(captured) if kind is PatchConv else captured.flatten(2)
    return kind(weight, bias, laid_out, captured_bias, window, only_nonzero)
