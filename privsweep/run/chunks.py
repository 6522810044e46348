"""An attack on many victims, as many at once as fit; finished ones are kept for the process that goes on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from privsweep.interface.data import Tensors
from privsweep.interface.records import Exposure, Guess, Knowledge, Observation, Reconstruction, Update
from privsweep.run.workbench import Workbench

_CURVE, _DIAGNOSTIC = "curve ", "diagnostic "
_AXIS = "iteration"  # of a curve, the same for all victims


@dataclass(frozen=True)
class Chunk:
    """Some of the victims, and what an interrupted process has guessed of them already."""

    seen: Observation
    known: Knowledge
    stored: Reconstruction | None
    bench: Workbench
    part: slice | None  # None: all victims, and nothing is kept

    def keep(self, guess: Guess) -> Guess:
        if self.part is not None and self.stored is None:
            assert isinstance(guess, Reconstruction)
            self.bench.keep("attack", "victims", self.part, _tensors(guess))
        return guess


def chunks(exposure: Exposure, size: int | None, bench: Workbench) -> Iterator[Chunk]:
    """``size`` victims of an update at once; all of them, of whatever is seen, where it is None."""
    seen, known = exposure.seen, exposure.known
    if size is None or not isinstance(seen, Update):
        yield Chunk(seen, known, None, bench, None)
        return
    for part in bench.parts("attack", len(seen.victims), size):
        some = known.having(labels=known.labels[part]) if "labels" in known.granted() else known
        found = bench.kept("attack", "victims", part)
        yield Chunk(seen.take(part), some, None if found is None else _guess(found), bench, part)


def joined(guesses: Sequence[Guess]) -> Guess:
    """One guess at all victims."""
    if len(guesses) == 1:
        return guesses[0]
    parts = [_tensors(guess) for guess in guesses if isinstance(guess, Reconstruction)]
    axis = _CURVE + _AXIS
    return _guess({name: t if name == axis else torch.cat([p[name] for p in parts]) for name, t in parts[0].items()})


def _tensors(guess: Reconstruction) -> dict[str, torch.Tensor]:
    named = {"images": guess.images, "diverged": guess.diverged}
    if guess.labels is not None:
        named["labels"] = guess.labels
    named |= {_CURVE + name: t for name, t in guess.curve.items()}
    return named | {_DIAGNOSTIC + name: t for name, t in guess.diagnostics.items()}


def _guess(named: Tensors) -> Reconstruction:
    def starting(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): t for name, t in named.items() if name.startswith(prefix)}

    return Reconstruction(
        named["images"], named["diverged"], named.get("labels"), starting(_DIAGNOSTIC), starting(_CURVE)
    )
