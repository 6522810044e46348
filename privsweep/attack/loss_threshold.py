"""Membership by the loss alone (Yeom et al., Privacy risk in machine learning, 2018)."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.membership_inference.auxiliary_data import unfit
from privsweep.membership_inference.scores import confidence, of_label, stand_out


@component
class LossThreshold(AttackBase):
    """A record is a member where its loss is low.

    Yeom et al. put the threshold at the mean training loss, which a black box does not tell: here it is the one at
    which the candidates stand out most from the adversary's own records, none of them a member.
    """

    observes: ClassVar[type] = Predictions
    needs: ClassVar[frozenset[str]] = frozenset({"domain", "candidates", "prior"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "black-box")

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        return unfit(prior, domain, 1, "attack=loss_threshold", "")

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        # A low loss is a high confidence, which does not round to 0 where the model is sure.
        scores = confidence(seen.probabilities, known.candidates.labels)
        answer = seen.ask(known.domain.inputs_of(known.prior))
        loss = -of_label(seen.probabilities, known.candidates.labels).log()
        return Scores(scores, stand_out(scores, confidence(answer, known.prior.labels)), {"loss": loss})
