"""Sequences of convolutions and dense layers: many small models in products with a leading axis.

What goes into a layer at its ``T`` places is laid out as rows ``a`` ``[K, n, T, F]``, so that a convolution is a
product with ``[K, F, O]``. With the losses' derivatives by what comes out, ``d`` ``[K, n, T, O]``, a layer's gradient
is the sum of their outer products, and the length of an example's is told without forming it where that is cheaper
(see ``clipped_sum``). A model's own record goes in apart from the fixed ones, which all models share.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privsweep.differential_privacy.clipping import clip_factors
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.sequence import is_sequence
from privsweep.training.full_batch.clipped_sum import layers_with_parameters
from privsweep.training.full_batch.descent import Task
from privsweep.training.stacked import mixes_examples, numbers_of

# Numbers that one pass holds, of all models.
_HELD = {"cpu": 2**22, "cuda": 2**30}
_KEPT = 4  # times what a pass leaves behind: patches, and what comes back


def fits(net: nn.Module, defense: Defense) -> bool:
    """Whether every layer acts on each example by itself, and parameters are those of plain layers with biases."""
    if not is_sequence(net) or mixes_examples(net) or defense.example_bound() is None:
        return False
    own = layers_with_parameters(net)
    if own is None or any(True for _ in net.buffers()) or any(layer.bias is None for layer in own.values()):
        return False
    dense = all(isinstance(layer, nn.Linear) or set(layer.dilation) == {1} for layer in own.values())
    return dense and set(own) <= {name for name, _ in net.named_children()}


class Convolutional:
    """The models of a task whose network ``fits``."""

    def __init__(self, task: Task):
        self.task = task
        self.names = [name for name, _ in task.net.named_parameters()]
        self.leaves = [task.start[name].contiguous().clone() for name in self.names]
        bound = task.defense.example_bound()
        assert bound is not None
        self.bound = bound
        each = _KEPT * sum(numbers_of(task.net, task.x[:1])) * len(task.own_x)
        self.size = max(1, _HELD[task.x.device.type] // each)  # records at once

    def gradients(self, rngs: Sequence[Rng]) -> list[Tensor]:
        task = self.task
        total = self._sum(task.own_x[:, None], task.own_y[:, None], task.present)
        for first in range(0, len(task.x), self.size):
            x, y = (t[None, first : first + self.size] for t in (task.x, task.y))
            for so_far, more in zip(total, self._sum(x, y.expand(len(task.own_x), -1), None), strict=True):
                so_far += more
        return [g / task.counts.to(g).view(-1, *[1] * (g.dim() - 1)) for g in total]

    def _sum(self, x: Tensor, y: Tensor, present: Tensor | None) -> list[Tensor]:
        """Of the records' gradients, by leaf; ``x`` is ``[K, n, ...]`` or ``[1, n, ...]``, ``y`` ``[K, n]``."""
        weights = dict(zip(self.names, self.leaves, strict=True))
        passed: list[tuple[str, Tensor, Tensor]] = []
        outputs = self._forward(weights, x, passed)
        count = y.numel()
        value = self.task.loss(outputs.flatten(0, 1), y.flatten(0, 1)) * count
        derivatives = torch.autograd.grad(value, [out for _, _, out in passed])
        with torch.no_grad():
            return self._total([(name, a, d) for (name, a, _), d in zip(passed, derivatives, strict=True)], present)

    def _forward(self, weights: Tensors, x: Tensor, passed: list[tuple[str, Tensor, Tensor]]) -> Tensor:
        """Outputs ``[K, n, ...]``; notes by layer what went in and came out, as rows."""
        for name, layer in self.task.net.named_children():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                a, places = (x[:, :, None], None) if isinstance(layer, nn.Linear) else _patches(layer, x)
                weight, bias = weights[f"{name}.weight"].flatten(2), weights[f"{name}.bias"]
                rows = a.flatten(1, 2).expand(len(weight), -1, -1)
                out = torch.baddbmm(bias[:, None], rows, weight.mT).unflatten(1, a.shape[1:3])
                if not out.requires_grad:
                    out.requires_grad_()  # of the first layer, whose input does not move
                passed.append((name, a.detach(), out))
                x = out[:, :, 0] if places is None else out.mT.unflatten(3, places)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x

    def _total(self, passed: Sequence[tuple[str, Tensor, Tensor]], present: Tensor | None) -> list[Tensor]:
        """By leaf, from what went into every layer and the derivatives by what came out."""
        factor = None if present is None else present.to(self.leaves[0])[:, None]
        if self.bound < math.inf:
            squares = torch.stack([_squares(a, d) for _, a, d in passed]).sum(0)
            clip = clip_factors(squares.sqrt(), self.bound)
            factor = clip if factor is None else clip * factor
        found: dict[str, Tensor] = {}
        for name, a, d in passed:
            d = d if factor is None else d * factor[:, :, None, None]
            rows = a.flatten(1, 2).expand(len(d), -1, -1)
            found[f"{name}.weight"] = torch.bmm(d.flatten(1, 2).mT, rows)
            found[f"{name}.bias"] = d.sum((1, 2))
        return [found[name].view(leaf.shape) for name, leaf in zip(self.names, self.leaves, strict=True)]

    def named(self, leaves: Sequence[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self.names, leaves, strict=True))

    def packed(self, parameters: Tensors) -> list[Tensor]:
        return [parameters[name] for name in self.names]

    def buffers(self) -> Tensors:
        return {}


def _patches(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Of images ``[K, n, C, H, W]`` what the filters cover, ``[K, n, T, C * kh * kw]``, and how the places lie."""
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    assert not isinstance(layer.padding, str)
    ph, pw = layer.padding
    framed = nn.functional.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    windows = framed.unfold(3, kh, sh).unfold(4, kw, sw)  # [K, n, C, h, w, kh, kw]
    places = (windows.shape[3], windows.shape[4])
    return windows.permute(0, 1, 3, 4, 2, 5, 6).reshape(*x.shape[:2], places[0] * places[1], -1), places


def _squares(a: Tensor, d: Tensor) -> Tensor:
    """The squared length ``[K, n]`` of every example's gradient of such a layer."""
    places, fed, out = a.shape[2], a.shape[3], d.shape[3]
    bias = d.sum(2).square().sum(2)
    if places == 1:
        return a.square().sum((2, 3)) * d.square().sum((2, 3)) + bias
    if fed * out < places**2:
        return torch.matmul(d.mT, a).square().sum((2, 3)) + bias
    return (torch.matmul(a, a.mT) * torch.matmul(d, d.mT)).sum((2, 3)) + bias
