"""Convolutions of few channels, in training and in judging, on a CPU: PyTorch's library fills vectors with channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from privsweep.compiled.convolution import Pair, VictimConvolution, compiled_for, lanes_of, pair

# With fewer outputs compiled code goes forward 0.9 to 2.6 times as fast as PyTorch's library, with fewer inputs back to
# the images 1.0 to 17 times, measured with scripts/thresholds.py on one CPU core, with vectors of 512 and of 256 bits.
FEW_CHANNELS = 16
# By the weights 0.8 to 3.1 times as fast with fewer of both, unless they fill the library's vectors: 0.7 times. With so
# few inputs 0.5 to 2 times.
COLOURS = 3
LEAST = 8  # images of a batch, for they fill our vectors


class _Convolution(torch.autograd.Function):
    """Forward, and back by images and by weights, each by whatever is faster."""

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, by_weights: bool
    ) -> Tensor:
        ctx.by_weights = by_weights
        ctx.save_for_backward(images, weight)
        ctx.of = VictimConvolution(len(images), 1, images.shape[1:], weight.shape, stride, padding)
        if len(weight) < FEW_CHANNELS:
            return cast(VictimConvolution, ctx.of).forward((images, weight), bias=bias)
        return torch.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, d: Tensor) -> tuple[Tensor | None, ...]:
        images, weight = ctx.saved_tensors
        of: VictimConvolution = ctx.of
        for_images, *others = ctx.needs_input_grad[:3]
        for_weight, for_bias = (needed and ctx.by_weights for needed in others)
        outputs, inputs = weight.shape[:2]
        ours_images, ours_weight = inputs < FEW_CHANNELS, COLOURS < inputs < FEW_CHANNELS and outputs < FEW_CHANNELS
        ours_weight &= inputs % lanes_of(d.dtype) > 0 or outputs % lanes_of(d.dtype) > 0
        theirs = [for_images and not ours_images, for_weight and not ours_weight, False]
        sizes = [outputs], of.stride, of.padding, (1, 1), False, (0, 0), 1
        found = torch.ops.aten.convolution_backward(d, images, weight, *sizes, theirs) if any(theirs) else (None,) * 3
        by_images, by_weight, _ = found
        if for_images and ours_images:
            by_images = of.pull_back((d, weight))
        if for_weight and ours_weight:
            by_weight = of.by_weight(images, d)
        by_bias = d.sum((0, 2, 3)) if for_bias else None  # the library's costs as much as the weight's
        return by_images, by_weight, by_bias, None, None, None


class _Narrow(TorchFunctionMode):
    def __init__(self, by_weights: bool):
        super().__init__()
        self.by_weights = by_weights

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and not kwargs and (given := _taken(*args)) is not None:
            return _Convolution.apply(*given, self.by_weights)
        return func(*args, **(kwargs or {}))


def _taken(
    images: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor, Tensor | None, Pair, Pair] | None:
    """What ``_Convolution`` takes, where it is the faster one."""
    back = torch.is_grad_enabled() and images.requires_grad
    gains = len(weight) < FEW_CHANNELS or (weight.shape[1] < FEW_CHANNELS and back)
    plain = groups == 1 and dilation in (1, (1, 1)) and not isinstance(padding, str)
    if not (gains and plain and len(images) >= LEAST and compiled_for(images.device, images.dtype)):
        return None
    window = pair(stride), pair(padding)
    return (images, weight, bias, *window) if _sound(images, weight, bias, *window) else None


def _sound(images: Tensor, weight: Tensor, bias: Tensor | None, stride: Pair, padding: Pair) -> bool:
    """Whether PyTorch takes these: what it refuses, compiled code would read beyond where it ends."""
    if not images.dim() == weight.dim() == 4 or images.shape[1] != weight.shape[1] or images.dtype != weight.dtype:
        return False
    if bias is not None and (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype):
        return False
    room = (n + 2 * p - k for n, p, k in zip(images.shape[2:], padding, weight.shape[2:], strict=True))
    return min(stride) > 0 and min(padding) >= 0 and min(room) >= 0


def narrow_convolutions(device: torch.device, by_weights: bool = True) -> AbstractContextManager[object]:
    """For outputs alone, or those of a training step, whose gradient follows them; they are differentiated once.

    Not for products that are rounded. ``by_weights``: by parameters, too.
    """
    return _Narrow(by_weights) if device.type == "cpu" and not torch.is_autocast_enabled("cpu") else nullcontext()
