"""Whether memory ran out, whoever says so."""

from __future__ import annotations

import gc

import torch

from privsweep.interface import heap

_WORDS = ("out of memory", "defaultcpuallocator", "alloc_failed")  # CUDA and its libraries, and PyTorch on a CPU


def out_of_memory(error: BaseException) -> bool:
    """Whether it was raised because an allocation failed. On a CPU the system may kill the process instead."""
    if isinstance(error, RuntimeError):
        return any(word in str(error).lower() for word in _WORDS)
    return isinstance(error, MemoryError)


def release() -> None:
    """Gives back what nobody refers to any more: call it outside of the ``except`` block, which holds the frames."""
    gc.collect()
    heap.trim()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
