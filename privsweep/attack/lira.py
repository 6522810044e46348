"""The likelihood ratio attack (Carlini et al., Membership inference attacks from first principles, 2022)."""

from __future__ import annotations

from collections.abc import Callable
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
from privsweep.membership_inference.related import Records, Side, best, fit, side
from privsweep.membership_inference.scores import confidence, stand_out

_FEWEST = 6  # confidences to take a variance from; with four, online, the AUC falls below that of a pooled one


class Told(NamedTuple):
    """What is known of the confidences in some records."""

    target: Tensor  # [n]
    shadows: Tensor  # [K, n]
    inside: Tensor  # bool [K, n]: the shadow trained on the record

    @property
    def out(self) -> Side:
        return side(self.shadows, ~self.inside)

    @property
    def into(self) -> Side:
        return side(self.shadows, self.inside)


@component
class LiRA(InOutAttack):
    """Compares the target's confidence in a record with that of shadows that were trained on it or not.

    Confidences are taken as Gaussian for every record, with one mean and variance in and another out. The score is the
    log likelihood ratio of in to out, and a member has one above 0. By default a record's Gaussians are weighed against
    those of all records, in the way that tells the shadows' own records best (``membership_inference.related``);
    offline the public records, on which some shadows train, tell how in is related to out, and a member stands out from
    them. As in the paper (algorithm 1 and section VI.A) the Gaussians are a record's own, with the variance of all
    records or its own; offline the score is then how many deviations the confidence lies above the shadows' (section
    VI.B). Of several versions of a record (section VI.C) the mean score counts.
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
                each.append(self._online(asked))
                continue
            public = self._told(seen, known, known.prior, *self.on_prior(known, prepared, rng, number), number)
            score = self._offline(public)
            each.append(score(asked))
            reference.append(score(public).where(public.out.count > 0, torch.nan))
        scores = torch.stack(each).mean(0)
        if self.online:
            return Scores(scores, scores > 0, found)
        usual = torch.stack(reference).mean(0)
        return Scores(scores, stand_out(scores, usual[usual.isfinite()]), found)

    def _told(
        self, seen: Predictions, known: Knowledge, records: ImageSet, replies: Tensor, inside: Tensor, number: int
    ) -> Told:
        target = confidence(self.of_target(seen, known, records, number), records.labels)
        return Told(target, confidence(replies, records.labels), inside)

    def _records(self, told: Told) -> Records:
        return fit(told.out, told.into, best(told.shadows, told.inside, self.online))

    def _online(self, asked: Told) -> Tensor:
        """Log likelihood ratio ``[n]`` of in to out."""
        if self.estimate == "related":
            return self._records(asked).log_ratio(asked.target, asked.out, asked.into)
        return self._likelihood(asked.target, asked.into) - self._likelihood(asked.target, asked.out)

    def _offline(self, public: Told) -> Callable[[Told], Tensor]:
        """What scores records ``[n]`` by the shadows that did not train on them."""
        if self.estimate == "related":
            records = self._records(public)
            return lambda told: records.log_ratio(told.target, told.out, told.into.none())
        return lambda told: (told.target - told.out.mean) / told.out.spread(self.estimate == "global")

    def _likelihood(self, target: Tensor, seen: Side) -> Tensor:
        spread = seen.spread(self.estimate == "global")
        return -((target - seen.mean) / spread).square() / 2 - spread.log()
