"""Named random streams: every draw comes from a generator seeded by the run's seed and a purpose.

Adding a defence does not shift the attack's draws, and victim 7 draws the same alone or among 128.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rng:
    """A point in the tree of random streams; a path names a purpose, such as ``("attack", "victim", 7)``."""

    seed: int
    path: tuple[str | int, ...] = ()

    def child(self, *purpose: str | int) -> Rng:
        """The stream for a narrower purpose."""
        return Rng(self.seed, self.path + purpose)

    def key(self) -> int:
        """A 63-bit seed: the hash of the run's seed and the path."""
        text = repr((self.seed, *self.path)).encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        """A fresh generator; the CPU's draws the same numbers whatever device computes afterwards."""
        return torch.Generator(device).manual_seed(self.key())

    def normal(self, *shape: int) -> Tensor:
        """Standard normal draws on the CPU."""
        return torch.randn(*shape, generator=self.generator())

    def permutation(self, n: int) -> Tensor:
        """A random order of ``range(n)``."""
        return torch.randperm(n, generator=self.generator())


@contextmanager
def seeded(rng: Rng) -> Iterator[None]:
    """Layers made inside draw their initial values from ``rng``; the global state is put back.

    They are made on the CPU; under ``torch.device("meta")`` they have shapes only, which costs nothing.
    """
    with torch.random.fork_rng(devices=[]):
        # not torch.manual_seed, which would seed the accelerators too
        torch.default_generator.manual_seed(rng.key())
        yield
