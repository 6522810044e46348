"""Convolutions of many models as products of what their filters cover with ``[K, F, O]``: for a GPU.

With the losses' derivatives by what comes out, ``d`` ``[K, n, T, O]``, a layer's gradient is the sum of their outer
products with what went in, and the length of an example's is told without forming it where that is cheaper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privsweep.interface.data import Tensors
from privsweep.training.full_batch.convolutional import Convolutional, dense_outputs, squares_of
from privsweep.training.full_batch.descent import Task

_HELD = 2**30  # numbers that one pass holds, of all models
_KEPT = 4  # times what a pass leaves behind: patches, and what comes back


class Patched(Convolutional):
    def __init__(self, task: Task):
        super().__init__(task, _HELD // _KEPT, len(task.own_x))

    def sum(self, weights: Tensors, x: Tensor, y: Tensor, present: Tensor | None) -> dict[str, Tensor]:
        passed: list[tuple[str, Tensor, Tensor]] = []
        outputs = self._forward(weights, x, passed)
        derivatives = torch.autograd.grad(self.loss(outputs, y), [out for _, _, out in passed])
        found: dict[str, Tensor] = {}
        with torch.no_grad():
            pairs = [(name, a, d) for (name, a, _), d in zip(passed, derivatives, strict=True)]
            squares = torch.stack([squares_of(a, d) for _, a, d in pairs]).sum(0) if self.clips else None
            factor = self.factors(squares, present)
            for name, a, d in pairs:
                d = d if factor is None else d * factor[:, :, None, None]
                rows = a.flatten(1, 2).expand(len(d), -1, -1)
                weight = torch.bmm(d.flatten(1, 2).mT, rows)
                found[f"{name}.weight"] = weight.view(weights[f"{name}.weight"].shape)
                found[f"{name}.bias"] = d.sum((1, 2))
        return found

    def _forward(self, weights: Tensors, x: Tensor, passed: list[tuple[str, Tensor, Tensor]]) -> Tensor:
        """Outputs ``[K, n, ...]``; notes by layer what went in and came out, as rows."""
        for name, layer in self.task.net.named_children():
            if isinstance(layer, nn.Linear):
                out = _watched(dense_outputs(weights, name, x))
                passed.append((name, x.detach()[:, :, None], out[:, :, None]))
                x = passed[-1][2][:, :, 0]
            elif isinstance(layer, nn.Conv2d):
                a, places = _patches(layer, x)
                weight, bias = weights[f"{name}.weight"].flatten(2), weights[f"{name}.bias"]
                rows = a.flatten(1, 2).expand(len(weight), -1, -1)
                out = _watched(torch.baddbmm(bias[:, None], rows, weight.mT).unflatten(1, a.shape[1:3]))
                passed.append((name, a.detach(), out))
                x = out.mT.unflatten(3, places)
            else:
                x = layer(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        return x


def _watched(out: Tensor) -> Tensor:
    return out if out.requires_grad else out.requires_grad_()  # the first layer's input does not move


def _patches(layer: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Of images ``[K, n, C, H, W]`` what the filters cover, ``[K, n, T, C * kh * kw]``, and how the places lie."""
    (kh, kw), (sh, sw) = layer.kernel_size, layer.stride
    assert not isinstance(layer.padding, str)
    ph, pw = layer.padding
    framed = nn.functional.pad(x, (pw, pw, ph, ph)) if ph or pw else x
    windows = framed.unfold(3, kh, sh).unfold(4, kw, sw)  # [K, n, C, h, w, kh, kw]
    places = (windows.shape[3], windows.shape[4])
    return windows.permute(0, 1, 3, 4, 2, 5, 6).reshape(*x.shape[:2], places[0] * places[1], -1), places
