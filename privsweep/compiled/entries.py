"""What a defence does to every entry of a gradient, on a CPU (``entries.c``): noise, and pruning."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from enum import IntEnum

import torch
from torch import Tensor

from privsweep.compiled.library import library


class First(IntEnum):
    """Which entries go first, as ``entries.c`` counts them."""

    LEAST_MAGNITUDE = 0
    LARGEST_MAGNITUDE = 1
    LOWEST = 2


class _Part(ctypes.Structure):
    _fields_ = (("source", ctypes.c_void_p), ("to", ctypes.c_void_p), ("length", ctypes.c_int64))


def with_normal(items: Sequence[Tensor], deviation: float, seed: Callable[[], int]) -> list[Tensor] | None:
    """Each with normal noise of that standard deviation; None where there is no code for such tensors.

    The draws are those of ``normal_``, for one after the other, from a CPU generator with that seed, to rounding: in a
    quarter of the time. ``seed`` is not asked for where there is no code.
    """
    found = _code(items)
    if found is None:
        return None
    whole, out, parts = _laid_out(items)
    least_bits = ctypes.c_uint32(seed() & 0xFFFFFFFF)  # all that a generator takes of it
    if found.add_normal(parts, ctypes.c_int64(len(whole)), ctypes.c_double(deviation), least_bits):
        raise MemoryError("no memory for noise")
    return out


def pruned(items: Sequence[Tensor], count: int, first: First) -> list[Tensor] | None:
    """All with ``count`` of their entries set to zero, of equals the earlier ones; None as above.

    ``count``: at least 1, at most all.
    """
    found = _code(items)
    if found is None:
        return None
    whole, out, parts = _laid_out(items)
    if found.prune(parts, ctypes.c_int64(len(whole)), ctypes.c_int64(count), ctypes.c_int(first)):
        raise MemoryError("no memory for pruning")
    return out


def _code(items: Sequence[Tensor]) -> ctypes.CDLL | None:
    if all(t.dtype == torch.float32 and t.device.type == "cpu" for t in items):
        return library("entries", torch.float32, _agrees)
    return None


def _laid_out(items: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], ctypes.Array[_Part]]:
    """What goes in, in the order of the axes, what comes out, and where both lie."""
    whole = [t.contiguous() for t in items]
    out = [torch.empty_like(t) for t in whole]
    parts = (_Part(a.data_ptr(), b.data_ptr(), a.numel()) for a, b in zip(whole, out, strict=True))
    return whole, out, (_Part * len(items))(*parts)


def _agrees(dtype: torch.dtype) -> bool:
    """With PyTorch's generator, for few and many numbers, and with a sort, beyond what is pruned without a sample."""
    generator, lengths = torch.Generator().manual_seed(2**40 + 1), (3, 16, 5, 1000, 300_000)
    drawn = [torch.empty(n).normal_(0, 0.5, generator=generator) for n in lengths]
    ours = with_normal([torch.zeros(n) for n in lengths], 0.5, lambda: 2**40 + 1)
    assert ours is not None
    if not all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(drawn, ours, strict=True)):
        return False
    every = torch.cat(drawn).mul(100).round()  # with equals
    left = pruned([every], 30_000, First.LEAST_MAGNITUDE)
    assert left is not None
    every[every.abs().argsort(stable=True)[:30_000]] = 0
    return torch.equal(every, left[0])
