"""The window of a convolution: what it covers of an image, and how its products go forward and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, fold, pad


@dataclass(frozen=True)
class Window:
    """How a convolution's window moves over an image.

    The patch that it covers, and so a row of the weight's gradient, is ordered ``kh, kw, C``, which is the fastest to
    gather; columns that are to be summed back into an image have PyTorch's order ``C, kh, kw``. Patches are those of a
    window without gaps that sees all channels.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    @property
    def has_patches(self) -> bool:
        return self.groups == 1 and self.dilation == (1, 1)

    def patches(self, a: Tensor, victims: int) -> Tensor:
        """Of ``[V * B, C, H, W]``: ``[V, n, kh * kw * C]``, one for each of the n positions in a victim's images."""
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        framed = pad(a.permute(0, 2, 3, 1), (0, 0, pw, pw, ph, ph))
        windows = framed.unfold(1, kh, sh).unfold(2, kw, sw)  # [V * B, h, w, C, kh, kw]
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(victims, -1, kh * kw * a.shape[1])

    def sum_columns(self, columns: Tensor, size: tuple[int, int]) -> Tensor:
        """Images ``[V * B, C, *size]`` from ``[V * B, C * kh * kw, positions]``."""
        return fold(columns, size, self.kernel, 1, self.padding, self.stride)

    def convolve(self, a: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return conv2d(a, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def pull_back(self, d: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """The gradient with respect to the input ``a`` from that with respect to the output."""
        return self._backward(d, a, weight, [True, False, False])[0]

    def by_weight(self, d: Tensor, a: Tensor, weight: Tensor) -> Tensor:
        """The gradient with respect to ``weight``."""
        return self._backward(d, a, weight, [False, True, False])[1]

    def _backward(self, d: Tensor, a: Tensor, weight: Tensor, asked: list[bool]) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.ops.aten.convolution_backward(
            d, a, weight, None, self.stride, self.padding, self.dilation, False, [0, 0], self.groups, asked
        )
        return found

    def rows(self, gradient: Tensor) -> Tensor:
        """A weight's gradient ``[V, outputs, C, kh, kw]`` as matrices ``[V, outputs, kh * kw * C]``."""
        return gradient.permute(0, 1, 3, 4, 2).flatten(2).contiguous()


def window_of(layer: nn.Conv2d) -> Window | None:
    """None where no window with equal padding on both sides does the same."""
    if layer.padding_mode != "zeros":
        return None
    kernel, stride, dilation = ((pair[0], pair[1]) for pair in (layer.kernel_size, layer.stride, layer.dilation))
    padding = layer.padding
    if isinstance(padding, str):
        around = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)] if padding == "same" else [0, 0]
        if any(total % 2 for total in around):
            return None
        padding = (around[0] // 2, around[1] // 2)
    return Window(kernel, stride, (padding[0], padding[1]), dilation, layer.groups)
