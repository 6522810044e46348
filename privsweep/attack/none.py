"""No attack: the run measures the model's utility alone."""

from __future__ import annotations

from typing import ClassVar

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.guess import Guess
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Observation, ThreatModel
from privsweep.interface.roles import Bench


@component
class NoAttack(AttackBase):
    """Observes nothing, so nothing is exposed."""

    observes: ClassVar[type[Observation] | None] = None
    needs: ClassVar[frozenset[str]] = frozenset()
    threat: ClassVar[ThreatModel] = ThreatModel(
        frozenset({"train"}), frozenset({"client", "server", "off-path"}), "black-box"
    )

    def __call__(self, seen: Observation, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Guess:
        raise AssertionError("there is nothing to attack")
