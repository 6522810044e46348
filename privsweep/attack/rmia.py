"""Robust membership inference (Zarifzadeh, Liu and Shokri, Low-cost high-power membership inference attacks, 2024)."""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from privsweep.interface.component import JudgementOnly, component
from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions, Scores
from privsweep.interface.roles import Bench
from privsweep.membership_inference.scores import of_label, stand_out
from privsweep.membership_inference.shadow_attack import InOutAttack

_TINY = 1e-30


@component
class RMIA(InOutAttack):
    """The share of population records z against which a record x is ``gamma`` times as likely.

    A record's likelihood is the target's probability of its label over the same on average over shadows, half of them
    in and half out. Where no shadow was trained on it, the average in is ``a`` times that out, plus 1 - a. The
    population are the public records, none of them a member. Records that are above as many of them are ordered by
    likelihood, as a larger population would. A member's score stands out from those of public records.
    """

    gamma: JudgementOnly[Annotated[float, Field(gt=0)]]
    a: JudgementOnly[Annotated[float, Field(ge=0, le=1)] | None]  # None: fitted to the shadows

    def __call__(self, seen: Predictions, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        labels, z_labels = known.candidates.labels, known.prior.labels
        (ours, inside) = self.on_candidates(known, prepared, rng)
        (theirs, z_inside) = self.on_prior(known, prepared, rng)
        shadows = torch.cat([of_label(ours, labels), of_label(theirs, z_labels)], 1).double()
        usual = self.usual(shadows, torch.cat([inside, z_inside], 1))
        answer = seen.ask(known.domain.inputs_of(known.prior))
        target = torch.cat([of_label(seen.probabilities, labels), of_label(answer, z_labels)]).double()
        likelihood = target / usual.clamp_min(_TINY)
        x, z = likelihood.split([len(labels), len(z_labels)])
        z = z[z.isfinite()].sort().values  # a public record that is in every shadow says nothing
        scores, reference = (self.share(values, z) for values in (x, z))
        return Scores(scores, stand_out(scores, reference), {"likelihood": x})

    def share(self, likelihood: Tensor, population: Tensor) -> Tensor:
        """Of the sorted ``population``, in ``[0, 1]``; the likelihood itself decides within one record's weight."""
        beaten = torch.searchsorted(population, likelihood / self.gamma).double()
        return (beaten + likelihood / (1 + likelihood)) / (len(population) + 1)

    def usual(self, p: Tensor, inside: Tensor) -> Tensor:
        """The probability ``[n]`` of a record's label over models at large, from shadows' ``[K, n]`` (section 3.3)."""
        out = _mean(p, ~inside)
        into = _mean(p, inside)
        a = torch.tensor(self.a, dtype=p.dtype) if self.a is not None else _slope(out, into)
        return (out + torch.where(into.isfinite(), into, a * out + 1 - a)) / 2


def _mean(p: Tensor, which: Tensor) -> Tensor:
    return p.where(which, 0.0).sum(0) / which.sum(0)


def _slope(out: Tensor, into: Tensor) -> Tensor:
    """The least squares fit of ``a`` in ``1 - in = a (1 - out)``, over records that have both, within [0, 1]."""
    both = out.isfinite() & into.isfinite()
    x, y = 1 - out[both], 1 - into[both]
    return ((x * y).sum() / x.square().sum().clamp_min(_TINY)).clamp(0, 1)
