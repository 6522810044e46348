"""Compiled code by several threads: it holds no lock while it works."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")


def at_once(work: Callable[[Part], Result], parts: Sequence[Part]) -> list[Result]:
    """``work`` of every part, the first by this thread; in their order."""
    first, *others = parts
    begun = [_pool(os.getpid(), torch.get_num_threads()).submit(work, part) for part in others]
    return [work(first), *(one.result() for one in begun)]


@cache
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Of this process: one that was forked has none of its parent's threads."""
    return ThreadPoolExecutor(threads)
