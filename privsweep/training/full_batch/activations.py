"""Activation layers forward, in place where their derivative can be told from the result, and backward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Backward = Callable[[Tensor], Tensor]  # of the result's gradient, which it may overwrite, to the argument's


def activated(layer: nn.Module, z: Tensor) -> tuple[Tensor, Backward]:
    """``layer(z)`` and its derivative; ``z`` is lost. ``layer`` works element by element."""
    ops = torch.ops.aten
    if isinstance(layer, nn.ELU):
        alpha, result = layer.alpha, nn.functional.elu_(z, layer.alpha)
        return result, lambda d: ops.elu_backward.grad_input(d, alpha, 1, 1, True, result, grad_input=d)
    if isinstance(layer, nn.ReLU):
        result = z.relu_()
        return result, lambda d: ops.threshold_backward.grad_input(d, result, 0, grad_input=d)
    if isinstance(layer, nn.Tanh):
        result = z.tanh_()
        return result, lambda d: ops.tanh_backward.grad_input(d, result, grad_input=d)
    if isinstance(layer, nn.Sigmoid):
        result = z.sigmoid_()
        return result, lambda d: ops.sigmoid_backward.grad_input(d, result, grad_input=d)
    if isinstance(layer, nn.Identity):
        return z, lambda d: d
    return _recorded(layer, z)


def _recorded(layer: nn.Module, z: Tensor) -> tuple[Tensor, Backward]:
    """By PyTorch's own derivative."""
    leaf = z.detach().requires_grad_()
    with torch.enable_grad():
        result = layer(leaf)
    return result.detach(), lambda d: torch.autograd.grad(result, leaf, d)[0]
