"""Random streams of work that is recorded: which generators it asks for, so that every replay can seed them anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from privsweep.interface.randomness import Rng

Purpose = tuple[int, tuple[str | int, ...]]  # whose stream, and what its path ends with


@dataclass
class Draws:
    """The generators that a piece of work asks its streams for, in order; while it is recorded it gets ``fixed`` ones.

    Every replay seeds those anew, so it draws what the work itself would have drawn.
    """

    fixed: Sequence[tuple[Purpose, torch.Generator]] | None = None
    asked: list[Purpose] = field(default_factory=list)
    on_host: bool = False  # whether numbers were drawn that no replay could draw

    def streams(self, rngs: Sequence[Rng]) -> list[Rng]:
        """These streams, under notice."""
        return [_Noticed(rng.seed, rng.path, self, (n, len(rng.path))) for n, rng in enumerate(rngs)]

    def generator(self, purpose: Purpose, stream: Rng, device: torch.device | str) -> torch.Generator:
        count = len(self.asked)
        self.asked.append(purpose)
        if self.fixed is None:
            return stream.generator(device)
        if self.fixed[count : count + 1] and self.fixed[count][0] == purpose:
            return self.fixed[count][1]
        raise RuntimeError("it does not draw the same numbers in every call")

    def seed(self, rngs: Sequence[Rng]) -> None:
        for (number, purpose), generator in self.fixed or ():
            generator.manual_seed(rngs[number].child(*purpose).key())


@dataclass(frozen=True)
class _Noticed(Rng):
    draws: Draws = field(default_factory=Draws)
    root: tuple[int, int] = (0, 0)  # the number of the stream, and the length of its path

    def child(self, *purpose: str | int) -> Rng:
        return _Noticed(self.seed, self.path + purpose, self.draws, self.root)

    def key(self) -> int:
        self.draws.on_host = True
        return super().key()

    def generator(self, device: torch.device | str = "cpu") -> torch.Generator:
        plain, (number, length) = Rng(self.seed, self.path), self.root
        if torch.device(device).type == "cpu":
            self.draws.on_host = True
            return plain.generator()
        return self.draws.generator((number, self.path[length:]), plain, device)
