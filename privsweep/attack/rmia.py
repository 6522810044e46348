"""Robust membership inference (Zarifzadeh, Liu and Shokri, Low-cost high-power membership inference attacks, 2024)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from privsweep.interface.component import JudgementOnly, component
from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions
from privsweep.interface.roles import Bench
from privsweep.membership_inference.in_out import InOutAttack, answered
from privsweep.membership_inference.scores import of_label, stand_out

_TINY = 1e-30
_USUAL = 0.3  # ``a`` where nothing can be fitted, as in the authors' code


@component
class RMIA(InOutAttack):
    """The share of population records z against which a record x is ``gamma`` times as likely.

    A record's likelihood is the target's probability of its label over the same on average over shadows, half of them
    in and half out. Where no shadow was trained on it, the average in is ``a`` times that out, plus 1 - a. The
    population are the public records, none of them a member. Records that are above as many of them are ordered by
    likelihood, as a larger population would. A member's score stands out from those of public records.

    Of one target ``gamma`` moves neither a record's rank nor a decision, only the share itself.
    """

    gamma: JudgementOnly[Annotated[float, Field(gt=0)]]
    a: JudgementOnly[Annotated[float, Field(ge=0, le=1)] | None]  # None: fitted to the shadows

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        ours, shadows, inside, count = self._told(seen, known, prepared, rng, known.candidates)
        theirs, z_shadows, z_inside, _ = self._told(seen, known, prepared, rng, known.prior)
        usual = self.usual(torch.cat([shadows, z_shadows], 1), torch.cat([inside, z_inside], 1))
        target = torch.cat([ours, theirs])
        likelihood = target / usual.clamp_min(_TINY)
        x, z = likelihood.split([len(ours), len(theirs)])
        z = z[z.isfinite()].sort().values  # a public record that is in every shadow says nothing
        scores, reference = (self.share(values, z) for values in (x, z))
        return Scores(scores, stand_out(scores, reference), {"likelihood": x, "shadows": count})

    def _told(
        self, seen: Predictions, known: Knowledge, prepared: Tensors, rng: Rng, records: ImageSet
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities of the labels, means over versions: the target's ``[n]`` and the shadows' ``[K, n]``, float64.

        Then which shadows trained on a record, bool ``[K, n]``, and how many of them gave numbers for it, ``[n]``.
        """
        ask = self.on_candidates if records is known.candidates else self.on_prior
        target, shadows = [], []
        for number in self.versions(known):
            replies, inside = ask(known, prepared, rng, number)
            target.append(of_label(self.of_target(seen, known, records, number), records.labels).double())
            shadows.append(of_label(replies, records.labels).double())
        return torch.stack(target).mean(0), torch.stack(shadows).mean(0), inside, answered(replies)

    def share(self, likelihood: Tensor, population: Tensor) -> Tensor:
        """Of the sorted ``population``, in ``[0, 1]``; the likelihood itself decides within one record's weight."""
        beaten = torch.searchsorted(population, likelihood / self.gamma).double()
        return (beaten + likelihood / (1 + likelihood)) / (len(population) + 1)

    def usual(self, p: Tensor, inside: Tensor) -> Tensor:
        """The probability ``[n]`` of a record's label over models at large, from shadows' ``[K, n]`` (section 3.3)."""
        out = _mean(p, ~inside)
        into = _mean(p, inside)
        a = self.a if self.a is not None else _slope(out, into)
        return (out + torch.where(into.isfinite(), into, a * out + 1 - a)) / 2


def _mean(p: Tensor, which: Tensor) -> Tensor:
    """Over the shadows where ``which`` holds; what is not finite is of one that diverged, and left out."""
    which = which & p.isfinite()
    return p.where(which, 0.0).sum(0) / which.sum(0)


def _slope(out: Tensor, into: Tensor) -> float:
    """The least squares fit of ``a`` in ``1 - in = a (1 - out)``, over records that have both, within [0, 1].

    By AUC it is no worse offline than the ``a`` that does best in attacks on the shadows: these share their records
    with each other, and the target does not.
    """
    both = out.isfinite() & into.isfinite()
    if not both.any():
        return _USUAL
    x, y = 1 - out[both], 1 - into[both]
    return float(((x * y).sum() / x.square().sum().clamp_min(_TINY)).clamp(0, 1))
