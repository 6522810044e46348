"""The control that knows nothing: what membership inference scores without looking."""

from __future__ import annotations

from typing import ClassVar

import torch

from privsweep.component import component
from privsweep.game import Bench, Knowledge, Predictions, Scores, Tensors, ThreatModel
from privsweep.immediate import Immediate
from privsweep.randomness import Rng


@component
class BlindMembership(Immediate):
    """Scores every candidate at random, and decides by a coin."""

    observes: ClassVar[type] = Predictions
    needs: ClassVar[frozenset[str]] = frozenset()
    threat: ClassVar[ThreatModel] = ThreatModel("test", frozenset({"off-path"}), "black-box")

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        count = len(seen.probabilities)
        scores, coins = (torch.rand(count, generator=rng.child(use).generator()) for use in ("scores", "coins"))
        return Scores(scores.to(bench.device), (coins < 0.5).to(bench.device))
