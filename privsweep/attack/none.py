"""No attack: the run measures the model's utility alone."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from privsweep.component import component
from privsweep.game import Bench, Guess, Knowledge, Observation, Setting, ThreatModel
from privsweep.randomness import Rng


@component
class NoAttack:
    """Observes nothing, so nothing is exposed."""

    observes: ClassVar[type[Observation] | None] = None
    needs: ClassVar[frozenset[str]] = frozenset()
    threat: ClassVar[ThreatModel] = ThreatModel("train", frozenset({"client", "server", "off-path"}), "black-box")

    def refuses(self, setting: Setting) -> str | None:
        return None

    def fits(self, model: nn.Sequential) -> str | None:
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Any:
        raise AssertionError("there is nothing to attack")

    def __call__(self, seen: Observation, known: Knowledge, prepared: Any, bench: Bench, rng: Rng) -> Guess:
        raise AssertionError("there is nothing to attack")
