"""Convolutions of many models as the groups of one, with channels innermost in memory: for a CPU.

Few channels leave the machine's vectors half empty, and those of several models lie side by side here. The first
convolution is an ordinary one with the filters of all models, since all see the same records.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from privsweep.compiled.convolution import compiled_for
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.model.blocks import ACTIVATION_LAYERS
from privsweep.training.full_batch.convolutional import Convolutional, dense_outputs, fits, squares_of
from privsweep.training.full_batch.descent import Task

_HELD = 2**22  # numbers that one pass holds, of all models: they stay near the processor
_MODELS = 4  # at once
_NARROW = 8  # channels from which a convolution fills the vectors by itself


def wins(net: nn.Module, defense: Defense, x: Tensor) -> bool:
    """Whether ``Grouped`` takes the network and is faster than one model after the other.

    Where gradients are clipped it is, for a first convolution looks at its input once for all models; but not where
    compiled code forms the examples' gradients of one.
    """
    if not fits(net, defense):
        return False
    if defense.example_bound() != math.inf:
        return not compiled_for(x.device, x.dtype)
    return any(isinstance(layer, nn.Conv2d) and layer.out_channels < _NARROW for layer in net.children())


class Grouped(Convolutional):
    def __init__(self, task: Task):
        super().__init__(task, _HELD, _MODELS)

    def sum(self, weights: Tensors, x: Tensor, y: Tensor, present: Tensor | None) -> dict[str, Tensor]:
        if self.clips:
            return self._clipped(weights, x, y, present)
        leaves = {name: w.detach().requires_grad_() for name, w in weights.items()}
        outputs = self._forward(leaves, x)
        (by,) = torch.autograd.grad(self.loss(outputs, y), outputs)
        factor = self.factors(None, present)
        by = by if factor is None else by * factor.view(*factor.shape, *[1] * (by.dim() - 2))
        return dict(zip(leaves, torch.autograd.grad(outputs, list(leaves.values()), by), strict=True))

    def _clipped(self, weights: Tensors, x: Tensor, y: Tensor, present: Tensor | None) -> dict[str, Tensor]:
        passed: list[tuple[str, Tensor, Tensor]] = []
        outputs = self._forward(weights, x, passed)
        derivatives = torch.autograd.grad(self.loss(outputs, y), [out for _, _, out in passed])
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            layers = {
                name: _layer(self.task.net.get_submodule(name), given.detach(), d)
                for (name, given, _), d in zip(passed, derivatives, strict=True)
            }
            squares = torch.stack([layer.squares() for layer in layers.values()]).sum(0)
            factor = self.factors(squares, present)
            assert factor is not None
            for name, layer in layers.items():
                found[f"{name}.weight"], found[f"{name}.bias"] = layer.total(factor)
        return found

    def _forward(self, weights: Tensors, x: Tensor, passed: list[tuple[str, Tensor, Tensor]] | None = None) -> Tensor:
        """Outputs ``[K, n, ...]``; notes by layer what went in and came out, which is all that is derived by then."""
        for name, layer in self.task.net.named_children():
            given = x
            if isinstance(layer, nn.Linear):
                x = dense_outputs(weights, name, x)
            elif isinstance(layer, nn.Conv2d):
                x = _convolved(layer, weights[f"{name}.weight"], weights[f"{name}.bias"], x)
            elif isinstance(layer, ACTIVATION_LAYERS):
                x = layer(x)  # wherever its numbers lie, as long as what comes back lies alike
                if x.dim() == 5 and x.requires_grad:
                    x.register_hook(_side_by_side)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            if passed is not None and isinstance(layer, nn.Linear | nn.Conv2d):
                if not x.requires_grad:
                    x.requires_grad_()  # of the first layer, whose input does not move
                passed.append((name, given, x))
        return x


def _side_by_side(x: Tensor) -> Tensor:
    """``[K, n, C, h, w]``, laid out as ``[n, h, w, K, C]``."""
    return x.permute(1, 3, 4, 0, 2).contiguous().permute(3, 0, 4, 1, 2)


def _convolved(layer: nn.Conv2d, weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    """``[K, n, O, h, w]``, laid out as ``[n, h, w, K, O]``."""
    models = len(weight)
    groups = 1 if len(x) == 1 else models
    side_by_side = x.transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
    out = conv2d(side_by_side, weight.flatten(0, 1), bias.flatten(), layer.stride, layer.padding, groups=groups)
    return out.unflatten(1, (models, -1)).transpose(0, 1)


@dataclass(frozen=True)
class _Formed:
    """A layer whose every example's gradient is formed."""

    weight: Tensor  # [K, n, O, kh, kw, C]
    bias: Tensor  # [K, n, O]

    def squares(self) -> Tensor:
        return self.weight.flatten(2).square().sum(2) + self.bias.square().sum(2)

    def total(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.matmul(factor[:, None], self.weight.flatten(2)).view(len(factor), *self.weight.shape[2:])
        return weight.permute(0, 1, 4, 2, 3), torch.matmul(factor[:, None], self.bias)[:, 0]


@dataclass(frozen=True)
class _Shared:
    """A first convolution, whose every example's gradient is formed, of all models in one product."""

    weight: Tensor  # [n, kh * kw * C, K, O]
    bias: Tensor  # [K, n, O]
    kernel: tuple[int, ...]

    def squares(self) -> Tensor:
        return self.weight.square().sum((1, 3)).T + self.bias.square().sum(2)

    def total(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        weight = torch.einsum("nfko,kn->kof", self.weight, factor).unflatten(2, (*self.kernel, -1))
        return weight.permute(0, 1, 4, 2, 3), torch.matmul(factor[:, None], self.bias)[:, 0]


@dataclass(frozen=True)
class _Rows:
    """A layer whose examples' gradients are told the length of, and summed up without being formed."""

    a: Tensor  # [K, n, T, F]; K is 1 where all models see the same
    d: Tensor  # [K, n, T, O]
    kernel: tuple[int, ...]  # none of a dense layer

    def squares(self) -> Tensor:
        return squares_of(self.a, self.d)

    def total(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        d = self.d * factor[:, :, None, None]
        weight = torch.matmul(d.flatten(1, 2).mT, self.a.flatten(1, 2))
        if self.kernel:
            weight = weight.unflatten(2, (*self.kernel, -1)).permute(0, 1, 4, 2, 3)
        return weight, d.sum((1, 2))


def _layer(layer: nn.Module, given: Tensor, d: Tensor) -> _Formed | _Shared | _Rows:
    """Of what went in, ``[K, n, ...]`` or ``[1, n, ...]``, and the derivatives ``[K, n, ...]`` by what came out."""
    if isinstance(layer, nn.Linear):
        return _Rows(given[:, :, None], d[:, :, None], ())
    assert isinstance(layer, nn.Conv2d)
    models, records, out = d.shape[:3]
    a, kernel = _patches(layer, given), layer.kernel_size
    if a.shape[3] * out >= a.shape[2] ** 2:
        return _Rows(a, d.flatten(3).mT, kernel)
    bias = d.sum((3, 4))
    if len(a) == 1:
        beside = d.permute(1, 3, 4, 0, 2).reshape(records, -1, models * out)
        return _Shared(torch.bmm(a[0].mT, beside).unflatten(2, (models, out)), bias, kernel)
    rows = d.permute(0, 1, 3, 4, 2).flatten(2, 3).flatten(0, 1)  # [K * n, T, O]
    weight = torch.bmm(rows.mT, a.flatten(0, 1)).view(models, records, out, *kernel, -1)
    return _Formed(weight, bias)


def _patches(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Of images ``[K, n, C, H, W]`` what the filters cover, ``[K, n, T, kh * kw * C]``."""
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    assert not isinstance(layer.padding, str)
    ph, pw = layer.padding
    inner = x.permute(0, 1, 3, 4, 2).contiguous()
    framed = pad(inner, (0, 0, pw, pw, ph, ph)) if ph or pw else inner
    windows = framed.unfold(2, kh, sh).unfold(3, kw, sw).permute(0, 1, 2, 3, 5, 6, 4)  # [K, n, h, w, kh, kw, C]
    return windows.flatten(4).flatten(2, 3)
