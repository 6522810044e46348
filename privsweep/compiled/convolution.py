"""Convolutions in which every victim has weights of its own, on a CPU (``lanes.c``)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from itertools import pairwise
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from privsweep.compiled.library import library
from privsweep.compiled.threads import at_once

Pair = tuple[int, int]


class Vector(IntEnum):
    """What lies in one, as ``lanes.c`` counts them: a number of many victims, channels of one, pixels of one."""

    VICTIMS = 0
    CHANNELS = 1
    PIXELS = 2


# How many times as long one of these takes as a full vector of victims, measured on one CPU core with 512 bits, by what
# fills the vectors: channels in one block 1.5 to 2.2 times, in more 0.7 to 1.2; pixels 2.0 to 2.4.
_ONE_BLOCK, _PIXELS = 1.8, 2.2


def compiled_for(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether there is code for such numbers there, and it is wanted."""
    return device.type == "cpu" and library("lanes", dtype, _agrees) is not None


@dataclass(frozen=True)
class VictimConvolution:
    """A convolution without dilation and groups, of ``victims`` batches of images.

    ``image``: ``(C, H, W)``. ``weight``: ``(outputs, C, kh, kw)``. Images are ``[V * B, C, H, W]``; weights of the
    victims' own ``[V, outputs, C * kh * kw]``, rows of which may lie within longer ones.
    """

    victims: int
    batch: int
    image: tuple[int, ...]
    weight: tuple[int, ...]
    stride: Pair
    padding: Pair

    @property
    def output(self) -> tuple[int, int, int, int]:
        """The outputs' shape."""
        size, kernel = self.image[1:], self.weight[2:]
        rows, columns = (
            (n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, self.padding, kernel, self.stride, strict=True)
        )
        return self.victims * self.batch, self.weight[0], rows, columns

    def forward(
        self,
        shared: tuple[Tensor, Tensor] | None,
        own: tuple[Tensor, Tensor] | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """Images with the weight ``[outputs, C, kh, kw]`` that all victims share, and others with their own; the sum.

        ``bias``: ``[outputs]``, or ``[V, outputs]``, each victim's.
        """
        images, weight = shared or (None, None)
        own_images, own_weight = own or (None, None)
        some = images if own_images is None else own_images
        assert some is not None
        out = some.new_empty(self.output)
        each = 0 if own_weight is None else own_weight.stride(0)
        if bias is not None and bias.dim() == 1:
            bias = bias.contiguous()
        bias_each = 0 if bias is None or bias.dim() == 1 else bias.stride(0)
        given = (_whole(images), _whole(weight), _whole(own_images), own_weight, bias, out)
        self._call("convolve", out.dtype, each, bias_each, given)
        return out

    def pull_back(self, shared: tuple[Tensor, Tensor], own: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """The gradient with respect to the images, from those with respect to the outputs."""
        d, weight = shared
        own_d, own_weight = own or (None, None)
        out = d.new_empty(self.victims * self.batch, *self.image)
        each = 0 if own_weight is None else own_weight.stride(0)
        self._call("pull_back", out.dtype, each, 0, (_whole(d), _whole(weight), _whole(own_d), own_weight, out))
        return out

    def residual(self, images: Tensor, d: Tensor, target: Tensor, out: Tensor) -> None:
        """Into ``out``: each victim's gradient with respect to the weight, less its ``target``, which lies alike."""
        assert target.stride() == out.stride()
        self._call("by_weight", out.dtype, out.stride(0), 0, (_whole(images), _whole(d), target, out))

    def by_weight(self, images: Tensor, d: Tensor) -> Tensor:
        """The gradient with respect to a weight that all share, ``[outputs, C, kh, kw]``."""
        sums = next(
            n for n in (lanes_of(d.dtype) * torch.get_num_threads(), lanes_of(d.dtype), 1) if len(images) % n == 0
        )
        sums = sums if sums > 1 else len(images)
        parts = replace(self, victims=sums, batch=len(images) // sums)
        return parts.by_own_weight(images, d).sum(0).view(self.weight)

    def by_own_weight(self, images: Tensor, d: Tensor) -> Tensor:
        """Each victim's gradient with respect to its weight, ``[V, outputs, C * kh * kw]``."""
        out = d.new_empty(self.victims, self.weight[0], prod(self.weight[1:]))
        self._call("by_weight", d.dtype, out.stride(0), 0, (_whole(images), _whole(d), None, out))
        return out

    def _call(
        self, name: str, dtype: torch.dtype, each: int, bias_each: int, tensors: tuple[Tensor | None, ...]
    ) -> None:
        found = library("lanes", dtype, _agrees)
        assert found is not None
        sizes = [self.batch, *self.image, *self.output[1:], *self.weight[2:], *self.stride, *self.padding]
        places = [None if t is None else ctypes.c_void_p(t.data_ptr()) for t in tensors]
        work = getattr(found, name)

        def of(part: _Part) -> int:
            layer = (ctypes.c_int64 * 18)(part.first, part.last, *sizes, each, bias_each, part.vector)
            return int(work(layer, *places))

        lanes = lanes_of(dtype)
        kind, cost = self._alone(lanes, back=name == "pull_back")
        if any(at_once(of, _parts(self.victims, lanes, torch.get_num_threads(), kind, cost))):
            raise MemoryError("no memory for a convolution")

    def _alone(self, lanes: int, back: bool) -> tuple[Vector, float]:
        """What fills vectors best where there is one victim, and how long it takes, in lanes of many victims."""
        channels = self.weight[1] if back else self.weight[0]
        by_channel = _filled(channels, lanes) * (_ONE_BLOCK if channels <= lanes else 1)
        by_pixel = _filled(-(-self.image[2] // self.stride[1]), lanes) * _PIXELS
        return (Vector.PIXELS, by_pixel) if back and by_pixel < by_channel else (Vector.CHANNELS, by_channel)


def pair(size: int | Sequence[int]) -> Pair:
    """Of rows and columns, as layers state a stride or a padding: two, or one for both."""
    return (size, size) if isinstance(size, int) else (size[0], size[-1])


def lanes_of(dtype: torch.dtype) -> int:
    """Numbers in a vector."""
    found = library("lanes", dtype, _agrees)
    assert found is not None
    return int(found.vector_bytes()) // dtype.itemsize


def _whole(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.contiguous()


def _filled(numbers: int, lanes: int) -> float:
    """Lanes that are taken for each."""
    return -(-numbers // lanes) * lanes / numbers


class _Part(NamedTuple):
    """Of the victims; parts are done at once."""

    first: int
    last: int
    vector: Vector


def _parts(victims: int, lanes: int, threads: int, alone: Vector, cost: float) -> list[_Part]:
    """``cost``: in lanes, of a victim of whom a vector holds nothing but channels or pixels."""
    whole = 0 if cost <= 1 else victims // lanes * lanes
    rest = alone if (victims - whole) * cost < lanes or cost <= 1 else Vector.VICTIMS
    return [
        *_split(0, whole, lanes, threads, Vector.VICTIMS),
        *_split(whole, victims, lanes if rest is Vector.VICTIMS else 1, threads, rest),
    ]


def _split(first: int, last: int, unit: int, threads: int, vector: Vector) -> list[_Part]:
    units = -(-(last - first) // unit)
    shares = min(threads, units)
    ends = [min(last, first + units * k // shares * unit) for k in range(shares + 1)] if shares else []
    return [_Part(a, b, vector) for a, b in pairwise(ends)]


def _agrees(dtype: torch.dtype) -> bool:
    """With PyTorch's convolution and its gradients, to rounding, for few and for many victims, on images with edges."""
    return all(_agrees_for(victims, dtype) for victims in (2, 17))


def _agrees_for(victims: int, dtype: torch.dtype) -> bool:
    of = VictimConvolution(victims, 2, (4, 9, 7), (7, 4, 3, 5), (2, 1), (1, 2))
    random = torch.Generator().manual_seed(0)
    shapes = ((2 * victims, *of.image), of.weight, (victims, *of.weight), (victims, 7), of.output, (victims, 7, 60))
    images, weight, own, bias, d, target = (torch.randn(shape, generator=random, dtype=dtype) for shape in shapes)
    with torch.enable_grad():
        leaves = (images.requires_grad_(), own.requires_grad_(), weight.requires_grad_())
        each = zip(images.chunk(victims), own, bias, strict=True)
        out = torch.cat([conv2d(x, w, b, of.stride, of.padding) for x, w, b in each])
        out = out + conv2d(images, weight, None, of.stride, of.padding)
        by_image, by_own, by_shared = torch.autograd.grad(out, leaves, d)
    images, own, weight, residual = images.detach(), own.detach().flatten(2), weight.detach(), torch.empty_like(target)
    of.residual(images, d, target, residual)
    out, by_own = out.detach(), by_own.flatten(2) - target
    moved = of.forward((images, weight), (images, own), bias)
    found = (moved, of.pull_back((d, weight), (d, own)), residual, of.by_weight(images, d))
    near = 100 * torch.finfo(dtype).eps
    return all(
        bool((a - b).abs().max() <= near * b.abs().max())
        for a, b in zip(found, (out, by_image, by_own, by_shared), strict=True)
    )
