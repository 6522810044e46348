"""The likelihood ratio attack (Carlini et al., Membership inference attacks from first principles, 2022)."""

from __future__ import annotations

from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from privsweep.interface.component import JudgementOnly, component
from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions
from privsweep.interface.roles import Bench
from privsweep.membership_inference.in_out import InOutAttack, answered
from privsweep.membership_inference.related import Side, fit, side
from privsweep.membership_inference.scores import confidence, stand_out

_FEWEST = 6  # confidences to take a variance from; with four, online, the AUC falls below that of a pooled one


class Told(NamedTuple):
    """What is known of the confidences ``[n]`` in some records."""

    target: Tensor
    out: Side  # of shadows that did not train on them
    into: Side  # of those that did


@component
class LiRA(InOutAttack):
    """Compares the target's confidence in a record with that of shadows that were trained on it or not.

    Confidences are taken as Gaussian for every record, with one mean and variance in and another out. The score is the
    log likelihood ratio of in to out, and a member has one above 0. By default a record's Gaussians are weighed against
    those of all records (``membership_inference.related``); offline the public ones, on which some shadows train, tell
    how in is related to out. As in the paper (algorithm 1 and section VI.A) they are its own, with the variance of all
    records or its own; offline the score is then how many deviations the confidence lies above the shadows' (section
    VI.B). Offline, a member stands out from the public records. Of several versions of a record (section VI.C) the mean
    score counts.
    """

    version: ClassVar[int] = 2

    estimate: JudgementOnly[Literal["related", "global", "record"]]  # a record's Gaussians: weighed, or its variance

    def __post_init__(self) -> None:
        """Raises UserError too for a variance from a handful of confidences, which rules the score by its error."""
        super().__post_init__()
        fewest = _FEWEST * (2 if self.online else 1)
        if self.estimate == "record" and self.shadows < fewest:
            raise UserError(
                f"attack.shadows={self.shadows}: too few for every record's own variance; take "
                f"attack.estimate=related, or attack.shadows={fewest} or more"
            )

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        each, reference, found = [], [], dict[str, Tensor]()
        for number in self.versions(known):
            replies, inside = self.on_candidates(known, prepared, rng, number)
            asked = self._told(seen, known, known.candidates, replies, inside, number)
            found = found or {"confidence": asked.target, "shadows": answered(replies)}
            if self.online:
                each.append(self._ratio(asked, asked))
                continue
            public = self._told(seen, known, known.prior, *self.on_prior(known, prepared, rng, number), number)
            each.append(self._offline(asked, public))
            reference.append(self._offline(public, public).where(public.out.count > 0, torch.nan))
        scores = torch.stack(each).mean(0)
        if self.online:
            return Scores(scores, scores > 0, found)
        usual = torch.stack(reference).mean(0)
        return Scores(scores, stand_out(scores, usual[usual.isfinite()]), found)

    def _told(
        self, seen: Predictions, known: Knowledge, records: ImageSet, replies: Tensor, inside: Tensor, number: int
    ) -> Told:
        target = confidence(self.of_target(seen, known, records, number), records.labels)
        shadows = confidence(replies, records.labels)
        return Told(target, side(shadows, ~inside), side(shadows, inside))

    def _ratio(self, asked: Told, others: Told) -> Tensor:
        """Log likelihood ratio ``[n]`` of in to out; ``others`` are the records that they are weighed against."""
        if self.estimate == "related":
            return fit(others.out, others.into).log_ratio(*asked)
        return self._likelihood(asked.target, asked.into) - self._likelihood(asked.target, asked.out)

    def _likelihood(self, target: Tensor, seen: Side) -> Tensor:
        spread = seen.spread(self.estimate == "global")
        return -((target - seen.mean) / spread).square() / 2 - spread.log()

    def _offline(self, asked: Told, public: Told) -> Tensor:
        """Without shadows that trained on what is asked about."""
        if self.estimate == "related":
            return self._ratio(asked._replace(into=asked.into.none()), public)
        return (asked.target - asked.out.mean) / asked.out.spread(self.estimate == "global")
