"""A control that ignores the answers: the score of membership inference without any information."""

from __future__ import annotations

from typing import ClassVar

import torch

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions, ThreatModel
from privsweep.interface.roles import Bench


@component
class BlindMembership(AttackBase):
    """Scores every candidate at random, and decides by a coin."""

    observes: ClassVar[type] = Predictions
    needs: ClassVar[frozenset[str]] = frozenset()
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "black-box")

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        count = len(seen.probabilities)
        scores, coins = (torch.rand(count, generator=rng.child(use).generator()) for use in ("scores", "coins"))
        return Scores(scores.to(bench.device), (coins < 0.5).to(bench.device))
