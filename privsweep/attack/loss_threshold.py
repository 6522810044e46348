"""Membership by the loss alone (Yeom et al., Privacy risk in machine learning, 2018)."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from privsweep.component import component
from privsweep.game import Bench, Domain, Knowledge, Predictions, Scores, Split, Tensors, ThreatModel
from privsweep.immediate import Immediate
from privsweep.likelihood import confidence, of_label, stand_out
from privsweep.public_data import unfit
from privsweep.randomness import Rng


@component
class LossThreshold(Immediate):
    """A record is a member where its loss is low.

    Yeom et al. put the threshold at the mean training loss, which a black box does not tell: here it is the one at
    which the candidates stand out most from the adversary's own records, none of them a member.
    """

    observes: ClassVar[type] = Predictions
    needs: ClassVar[frozenset[str]] = frozenset({"domain", "candidates", "public"})
    threat: ClassVar[ThreatModel] = ThreatModel("test", frozenset({"off-path"}), "black-box")

    def fits(self, model: nn.Sequential, domain: Domain, public: Split | None) -> str | None:
        return unfit(public, domain, 1, "attack=loss_threshold", "")

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        assert known.public is not None
        assert known.candidates is not None
        assert known.domain is not None
        # A low loss is a high confidence, which does not round to 0 where the model is sure.
        scores = confidence(seen.probabilities, known.candidates.labels)
        answer = seen.ask(known.domain.inputs(known.public.pixels()))
        loss = -of_label(seen.probabilities, known.candidates.labels).log()
        return Scores(scores, stand_out(scores, confidence(answer, known.public.labels)), {"loss": loss})
