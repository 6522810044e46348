"""How fast this machine is where nothing holds it up: a large matrix product, and the reading of memory."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.contest import Turn

_SIDE, _NUMBERS = 2048, 2**26


def products(flop: float, device: torch.device, side: int = _SIDE) -> Turn:
    """Units of ``flop`` each that one large float32 product amounts to."""
    a = torch.ones(side, side, device=device)

    def turn() -> float:
        torch.mm(a, a)
        return 2 * side**3 / flop

    return turn


def reading(size: float, device: torch.device, numbers: int = _NUMBERS) -> Turn:
    """Units of ``size`` bytes each that a sum reads."""
    line = torch.ones(numbers, device=device)

    def turn() -> float:
        line.sum()
        return 4 * numbers / size

    return turn


def training_step(net: nn.Module, x: Tensor, quick: bool) -> Turn:
    """Examples, of those ``x`` ``[n, ...]``, whose products forward and back, once each, a large one amounts to."""
    with FlopCounterMode(display=False) as counter:
        net(x).sum().backward()
    net.zero_grad()
    return products(counter.get_total_flops() / len(x), x.device, 256 if quick else _SIDE)


def slower(turns: list[Turn], device: torch.device) -> Turn:
    """The one that takes longest for a unit: the least time of whatever needs all of them."""
    return max(turns, key=lambda turn: _least(turn, device))


def _least(turn: Turn, device: torch.device) -> float:
    """Seconds a unit, of five turns."""
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    spent = []
    for _ in range(5):
        wait()
        start = time.perf_counter()
        count = turn()
        wait()
        spent.append((time.perf_counter() - start) / count)
    return min(spent)
