"""Rates of several ways to do one thing, measured turn about, so that a busy machine disturbs them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

Turn = Callable[[], int]  # how many evaluations of one victim it made


def measure(turns: Mapping[str, Turn], seconds: float, device: torch.device) -> dict[str, list[float]]:
    """Evaluations a second, one list a kind, until the time is up; at least three turns after a warm-up."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for turn in turns.values():
        turn()
    rates: dict[str, list[float]] = {kind: [] for kind in turns}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, rates.values())) < 3:
        for kind, turn in turns.items():
            wait()
            start = time.perf_counter()
            count = turn()
            wait()
            rates[kind].append(count / (time.perf_counter() - start))
    return rates


def show(title: str, rates: Mapping[str, list[float]]) -> None:
    """Medians, and medians and extremes of the ratios to ``plain`` within a turn."""
    print(f"\n{title} ({len(rates['plain'])} turns)")
    print(f"  {'':24}{'victim evaluations/s':>22}{'against torch':>16}{'spread':>16}")
    for kind in rates:
        label = "torch, one at a time" if kind == "plain" else f"ours, {kind} together"
        ratios = sorted(r / p for r, p in zip(rates[kind], rates["plain"], strict=True))
        spread = f"{ratios[0]:.1f} to {ratios[-1]:.1f}"
        print(f"  {label:24}{statistics.median(rates[kind]):22.0f}{statistics.median(ratios):15.1f}x{spread:>16}")
