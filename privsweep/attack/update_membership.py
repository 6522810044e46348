"""Membership inference against a client's update: was this record in the batch behind it?"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.update_to_gradient import gradient_scale
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.printable import shown
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, UpdateTrials
from privsweep.interface.roles import Bench
from privsweep.membership_inference.auxiliary_data import unfit
from privsweep.membership_inference.example_rows import (
    ExampleRows,
    flat,
    halfway,
    mixed,
    only_direction,
    tells_steps,
    whole,
)  # fmt: skip
from privsweep.membership_inference.scores import stand_out
from privsweep.membership_inference.update_ratio import as_long_as_means, log_ratios, products
from privsweep.model.stochastic import draw

_FEWEST = 2  # public records: one has no covariance
_COPIES = 3  # of gradients in float64: two parts, and what one of them is made of


@component
class UpdateMembership(AttackBase):
    """Asks whether an update points along a record's gradient, in directions that few records share.

    A server, or another client, sees the weights and so computes the gradient of any record (Nasr, Shokri and
    Houmansadr, "Comprehensive privacy analysis of deep learning", IEEE S&P 2019, section 4; Li et al., "Effective
    passive membership inference attacks in federated learning against overparameterized models", ICLR 2023, compare it
    with the update by cosine). Ours is the likelihood ratio of two Gaussians, whose mean and covariance are those of
    the gradients of ``references`` public records (``log_ratios``); above 0 decides for a member. The defence is known:
    public records' and candidates' gradients are clipped as it clips, and where it clips whole updates, these are made
    longer by what it takes off those of as many public records. Of updates of a defence that sets entries to zero, and
    of any that are mostly zeros, the entries that are none are compared, each update by itself.

    A weight difference is taken for equal steps, of SGD; of Adam's its direction alone counts. Where several steps of
    one client led to it, and no defence changed it on its way, gradients are those halfway between the weights before
    and after, for the mean over all steps (the midpoint rule; ours): before them alone fewer members are found.

    ``statistic="cosine"`` is Li et al.'s, which decides for a member where candidates stand out from public records.
    Diagnostics: ``cosine``, whatever the statistic.
    """

    statistic: Literal["ratio", "cosine"]
    references: Annotated[int, Field(ge=_FEWEST)]
    memory: ResourceOnly[Annotated[float, Field(gt=0)]]  # GiB for gradients; with less they are computed more often

    observes: ClassVar[type] = UpdateTrials
    # 1: updates that are clipped as a whole are made longer, half as many directions as numbers count at most, of a
    # defence that sets some entries to zero these are passed over, and of differences gradients are those halfway.
    version: ClassVar[int] = 1
    reports: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[frozenset[str]] = frozenset({"model", "loss", "domain", "recipe", "candidates", "defense", "prior"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"server", "client"}), "white-box")

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if reason := mixed(model, "attack=update_membership"):
            return reason
        return unfit(prior, domain, _FEWEST, f"attack.references={shown(self.references)}", "")

    def __call__(self, seen: UpdateTrials, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        direction = only_direction(seen.updates, known)
        scale = -1.0 if direction else gradient_scale(seen.updates, known)
        target = scale * flat(seen.updates.delta)
        chosen = rng.child("references").permutation(len(known.prior))[: self.references]
        pool = known.prior.take(chosen.to(target.device)).with_more(known.candidates)
        asked, public = seen.asked.to(target.device), len(chosen)
        defense = known.defense.defense if "defense" in known.granted() else None
        noise = self._noise(known, public, torch.tensor(seen.updates.victims).to(asked)[asked], rng.child("noise"))
        inputs, names = known.domain.inputs_of(pool), tuple(seen.updates.delta)
        rows_of = ExampleRows(known.loss, inputs, pool.labels, noise, defense, names)
        if defense is not None and "update" in defense.acts_at() and not direction:
            target /= rows_of.passing(seen.updates, known.model, public, scale, defense, rng.child("passing"))
        size = max(1, int(self.memory * 2**30 / (8 * _COPIES * target.shape[1])))

        def judged(
            at: Tensor, columns: Tensor | slice, model: nn.Module, watch: Callable[[int, int], None]
        ) -> tuple[Tensor, Tensor, Tensor]:
            """Scores, decisions and cosines of the candidates ``at``, by the entries in ``columns`` of gradients."""
            rows = torch.cat([torch.arange(public, device=at.device), public + at])
            updates, of = asked[at].unique(return_inverse=True)

            def gradients(part: slice) -> Tensor:
                return rows_of.part(rows[part], columns, rng.child("clipped", part.start), model)

            compared = target[updates][:, columns]
            found = products(gradients, public, compared, of, size, watch)
            cosine = (found.own / (found.squares * found.lengths[of]).sqrt()).nan_to_num(0.0)
            if self.statistic == "cosine":
                others = found.seen / (found.public.diagonal()[:, None] * found.lengths).sqrt()
                return cosine, stand_out(cosine, others.flatten().nan_to_num(0.0)), cosine
            if direction:
                found = as_long_as_means(found, of, seen.updates.examples)
            scores = log_ratios(found, of, seen.updates.examples, compared.shape[1])
            return scores, scores > 0, cosine

        all_of_it, underway = whole(target, defense), tells_steps(seen.updates, known, defense)
        if all_of_it and not underway:
            everyone = torch.arange(len(asked), device=target.device)
            scores, decisions, cosine = judged(everyone, slice(None), known.model, bench.tick)
            return Scores(scores, decisions, {"cosine": cosine})
        scores, cosine = target.new_zeros(2, len(asked))
        decisions, model = torch.zeros_like(asked, dtype=torch.bool), deepcopy(known.model)
        for n, update in enumerate(asked.unique().tolist()):
            at = (asked == update).nonzero()[:, 0]
            if underway:
                halfway(model, seen.updates, update)
            columns = slice(None) if all_of_it else target[update] != 0
            scores[at], decisions[at], cosine[at] = judged(at, columns, model, lambda done, total: None)
            bench.tick(n + 1, len(target))
        return Scores(scores, decisions, {"cosine": cosine})

    def _noise(self, known: Knowledge, public: int, asked: Tensor, rng: Rng) -> dict[str, Tensor]:
        """What stochastic layers read, for public records and for candidates: those of each update by themselves."""
        found = draw(known.model, public, rng.child("public"), asked.device)
        if not found:
            return {}
        own = {name: z.new_empty(len(asked), *z.shape[1:]) for name, z in found.items()}
        for update in asked.unique().tolist():
            at = (asked == update).nonzero()[:, 0]
            for name, z in draw(known.model, len(at), rng.child("victim", update), asked.device).items():
                own[name][at] = z
        return {name: torch.cat([z, own[name]]) for name, z in found.items()}
