"""What an iteration of gradient matching costs at least, and what this machine could do of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from matching_world import World
from privsweep.gradient_inversion.engine.rule_dense import SMALL

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Work:
    """Of one victim's iteration."""

    flop: float
    read: float  # bytes that no other victim shares

    def __str__(self) -> str:
        return f"{self.flop / 1e6:.0f} MFLOP and {self.read / 1e6:.0f} MB of its own"


def least_work(world: World, noisy: bool) -> Work:
    """Two sweeps and two tangent sweeps of matrix products.

    The first layer sends nothing back and gets no tangent. Filters and small dense layers act a second time by the
    victim's own matrix in three of the sweeps. A large dense layer's noisy gradient is read for ``G a`` and for
    ``G^T d``; a clean one is of rank one and counts as nothing.
    """
    flop, read = 0.0, 0.0
    layers = [layer for layer in world.model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    for layer, positions in zip(layers, _positions(world.model, world.images[0], layers), strict=True):
        product = 2.0 * layer.weight.numel() * positions
        flop += product * (2 if layer is layers[0] else 4)
        if isinstance(layer, nn.Conv2d) or layer.weight.numel() <= SMALL:
            flop += 3 * product
        elif noisy:
            flop += 2 * product
            read += 2.0 * layer.weight.numel() * layer.weight.element_size()
    return Work(flop, read)


def _positions(model: nn.Module, image: Tensor, layers: list[nn.Module]) -> list[int]:
    """How often each layer's weight is used in one image."""
    found: list[int] = []
    hooks = [a.register_forward_hook(lambda _, __, out: found.append(out[0, 0].numel())) for a in layers]
    model(image)
    for hook in hooks:
        hook.remove()
    return found


def machine(device: torch.device) -> tuple[float, float]:
    """The best seen of a large float32 product, in FLOP a second, and of a sum's reading, in bytes a second."""
    a = torch.randn(2048, 2048, device=device)
    line = torch.randn(2**26, device=device)
    return 2 * 2048**3 / _least(lambda: a @ a, device), line.numel() * 4 / _least(line.sum, device)


def _least(call: Callable[[], object], device: torch.device) -> float:
    """Seconds, of ten calls."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    times = []
    for _ in range(10):
        wait()
        start = time.perf_counter()
        call()
        wait()
        times.append(time.perf_counter() - start)
    return min(times)


def show_floor(world: World, noisy: bool, rate: float, device: torch.device) -> None:
    """``rate``: iterations of one victim a second."""
    work, (products, reading) = least_work(world, noisy), machine(device)
    floor = max(work.flop / products, work.read / reading)
    print(f"\nAt least {work} for one victim's iteration. This machine multiplies at {products / 1e9:.0f} GFLOP/s")
    print(f"and reads at {reading / 1e9:.0f} GB/s: {floor * 1e3:.3f} ms. Ours takes {1e3 / rate:.3f} ms, ", end="")
    print(f"{1 / (rate * floor):.1f} times that.")
