"""An attack on many victims, as many at once as fit; finished ones are kept for the process that goes on."""

from __future__ import annotations

from collections.abc import Callable

import torch

from privsweep.interface.data import Tensors
from privsweep.interface.guess import Guess, Reconstruction
from privsweep.interface.records import Exposure, Knowledge, Observation, Update
from privsweep.interface.roles import Bench

_CURVE, _DIAGNOSTIC = "curve ", "diagnostic "
_AXIS = "iteration"  # of a curve, the same for all victims


def in_chunks(
    exposure: Exposure, size: int | None, bench: Bench, attack: Callable[[Observation, Knowledge], Guess]
) -> Guess:
    """``size`` victims of an update at once, fewer where memory runs out; all of whatever is seen where it is None."""
    seen, known = exposure.seen, exposure.known
    if size is None or not isinstance(seen, Update):
        return _checked(attack(seen, known))

    def make(part: slice) -> Tensors:
        some = known.having(labels=known.labels[part]) if "labels" in known.granted() else known
        guess = _checked(attack(seen.take(part), some))
        assert isinstance(guess, Reconstruction)
        return _tensors(guess)

    return _guess(bench.chunks("attack", "victims", len(seen.victims), size, make))


def _checked(guess: Guess) -> Guess:
    """What the attack returned, which may be the user's own."""
    if not isinstance(guess, Guess):
        raise TypeError(
            f"the attack returned {type(guess).__name__}; let it return a Reconstruction, Scores, a "
            "Transcription or Answers"
        )
    return guess


def _tensors(guess: Reconstruction) -> dict[str, torch.Tensor]:
    named = {"images": guess.images, "diverged": guess.diverged}
    if guess.labels is not None:
        named["labels"] = guess.labels
    named |= {_CURVE + name: t for name, t in guess.curve.items()}
    return named | {_DIAGNOSTIC + name: t for name, t in guess.diagnostics.items()}


def _guess(named: Tensors) -> Reconstruction:
    def starting(prefix: str) -> dict[str, torch.Tensor]:
        return {name.removeprefix(prefix): t for name, t in named.items() if name.startswith(prefix)}

    curve = starting(_CURVE)
    for values in [t for name, t in curve.items() if name != _AXIS]:  # every chunk came with the whole axis
        curve[_AXIS] = curve[_AXIS][: values.shape[1]]
    return Reconstruction(named["images"], named["diverged"], named.get("labels"), starting(_DIAGNOSTIC), curve)
