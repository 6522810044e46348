"""No attack: the run measures the model's utility alone."""

from __future__ import annotations

from typing import ClassVar

from privsweep.component import component
from privsweep.game import Bench, Guess, Knowledge, Observation, Tensors, ThreatModel
from privsweep.immediate import Immediate
from privsweep.randomness import Rng


@component
class NoAttack(Immediate):
    """Observes nothing, so nothing is exposed."""

    observes: ClassVar[type[Observation] | None] = None
    needs: ClassVar[frozenset[str]] = frozenset()
    threat: ClassVar[ThreatModel] = ThreatModel("train", frozenset({"client", "server", "off-path"}), "black-box")

    def __call__(self, seen: Observation, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Guess:
        raise AssertionError("there is nothing to attack")
