"""The likelihood ratio attack (Carlini et al., Membership inference attacks from first principles, 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from privsweep.interface.component import JudgementOnly, component
from privsweep.interface.data import Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions
from privsweep.interface.roles import Bench
from privsweep.membership_inference.in_out import InOutAttack, answered
from privsweep.membership_inference.scores import confidence, stand_out

_FEWEST = 6  # confidences to take a variance from; with four, online, the AUC falls below that of a pooled one
_ENOUGH = 32  # from which a record's own variance finds more at few false alarms than a pooled one
_LEAST = 1e-6  # variance of a confidence, in squared logits: of shadows that agree


@component
class LiRA(InOutAttack):
    """Compares the target's confidence in a record with that of shadows that were trained on it or not.

    Confidences are taken as Gaussian for every record (algorithm 1), of its own variance where there are many shadows,
    as in the paper (section VI.A), and of a pooled one where there are few. Online, the score is the log likelihood
    ratio of in to out, and a member has one above 0. Offline (section VI.B) it is how many deviations the confidence
    lies above the shadows', which orders records as the one-sided test does; a member stands out from the public
    records. Of several versions of a record (section VI.C) the mean score counts.
    """

    variance: JudgementOnly[Literal["auto", "global", "record"]]  # pooled over all records, or every record's own

    @property
    def _sides(self) -> int:
        return 2 if self.online else 1

    @property
    def _pooled(self) -> bool:
        few = self.shadows < _ENOUGH * self._sides
        return few if self.variance == "auto" else self.variance == "global"

    def __post_init__(self) -> None:
        """Raises UserError too for a variance from a handful of confidences, which rules the score by its error."""
        super().__post_init__()
        fewest = _FEWEST * self._sides
        if self.variance == "record" and self.shadows < fewest:
            raise UserError(
                f"attack.shadows={self.shadows}: too few for every record's own variance; take "
                f"attack.variance=global, or attack.shadows={fewest} or more"
            )

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        each, reference, found = [], [], dict[str, Tensor]()
        for number in self.versions(known):
            labels = known.candidates.labels
            target = confidence(self.of_target(seen, known, known.candidates, number), labels)
            replies, inside = self.on_candidates(known, prepared, rng, number)
            each.append(self._scores(target, confidence(replies, labels), inside))
            found = found or {"confidence": target, "shadows": answered(replies)}
            if not self.online:
                labels = known.prior.labels
                target = confidence(self.of_target(seen, known, known.prior, number), labels)
                replies, inside = self.on_prior(known, prepared, rng, number)
                reference.append(self._scores(target, confidence(replies, labels), inside))
        scores = torch.stack(each).mean(0)
        if self.online:
            return Scores(scores, scores > 0, found)
        usual = torch.stack(reference).mean(0)
        return Scores(scores, stand_out(scores, usual[usual.isfinite()]), found)

    def _scores(self, target: Tensor, shadows: Tensor, inside: Tensor) -> Tensor:
        """Of one version of every record, ``[n]``, from the target's confidences and the shadows' ``[K, n]``."""
        out, spread = self.gaussian(shadows, ~inside)
        z = (target - out) / spread
        if not self.online:
            return z
        into, width = self.gaussian(shadows, inside)
        return z.square() / 2 + spread.log() - ((target - into) / width).square() / 2 - width.log()

    def gaussian(self, values: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation ``[n]`` of ``values`` ``[K, n]`` where ``which`` holds; NaN where nowhere.

        A value that is not finite is that of a shadow which diverged, and left out.
        """
        which = which & values.isfinite()
        count = which.sum(0)
        mean = values.where(which, 0.0).sum(0) / count
        squares = (values - mean).square().where(which, 0.0).sum(0)
        # every record's mean takes one degree of freedom
        free = (count - 1).clamp_min(0)
        if self._pooled:
            squares, free = squares.sum(), free.sum()
        return mean, (squares / free.clamp_min(1)).clamp_min(_LEAST).sqrt().expand_as(mean)
