"""Property inference against a client's update: are examples of a kind behind it that the task does not tell apart?"""

from __future__ import annotations

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
from privsweep.interface.records import Knowledge, PropertyTrials, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.membership_inference.auxiliary_data import unfit
from privsweep.membership_inference.batch_forest import told_by_forest
from privsweep.membership_inference.discriminant import FEWEST, LEAST, discriminant
from privsweep.membership_inference.example_rows import (
    ExampleRows,
    flat,
    halfway,
    mixed,
    only_direction,
    tells_steps,
    whole,
)  # fmt: skip
from privsweep.membership_inference.update_ratio import as_long_as_means, beyond, products
from privsweep.model.stochastic import draw

_COPIES = 3  # of gradients in float64: two parts, and what one of them is made of


@component
class PropertyInference(AttackBase):
    """Asks whether examples with a property are behind an update, by gradients of examples with it and without.

    A server, or another client, has labelled examples of its own and knows of each whether it has the property
    (Melis et al., "Exploiting unintended feature leakage in collaborative learning", IEEE S&P 2019: passive property
    inference). Ours, ``classifier="discriminant"``, computes each of their gradients at the captured weights and takes
    the direction along which those with the property differ most, for their spread, from others with the same label
    (``discriminant``). A client's update is a mean of gradients, so that it is shifted along it by the share of those
    with the property; above half the shift that ``share`` of them makes in simulated updates decides for it. What noise
    adds is what updates have beyond the span of gradients; clipping and pruning are taken into account as in
    ``attack=update_membership``.

    ``classifier="forest"`` is theirs: a random forest, fitted to updates that are simulated from the adversary's own
    examples, ``batches`` with the property and as many without.
    """

    classifier: Literal["discriminant", "forest"]
    references: Annotated[int, Field(ge=LEAST)]
    share: Annotated[float, Field(gt=0, le=1)]  # of a client's examples, if any, as the adversary supposes
    batches: Annotated[int, Field(ge=1)]  # of either kind, that a forest is fitted to
    memory: ResourceOnly[Annotated[float, Field(gt=0)]]  # GiB for gradients; with less they are computed more often

    observes: ClassVar[type] = PropertyTrials
    reports: ClassVar[frozenset[str]] = frozenset()
    needs: ClassVar[frozenset[str]] = frozenset(
        {"model", "loss", "domain", "recipe", "defense", "prior", "has_property"}
    )
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"server", "client"}), "white-box")

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if reason := mixed(model, "attack=property_inference"):
            return reason
        return unfit(prior, domain, LEAST, f"attack.references={shown(self.references)}", "")

    def __call__(self, seen: PropertyTrials, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Scores:
        updates = seen.updates
        direction = only_direction(updates, known)
        scale = -1.0 if direction else gradient_scale(updates, known)
        target, device = scale * flat(updates.delta), known.prior.labels.device
        chosen = self._references(known.prior.labels.cpu(), known.has_property.cpu(), rng.child("references")).to(
            device
        )
        pool, has = known.prior.take(chosen), known.has_property[chosen]
        alike = ~has & torch.isin(pool.labels, pool.labels[has])
        defense = known.defense.defense if "defense" in known.granted() else None
        noise = draw(known.model, len(chosen), rng.child("noise"), device)
        names = tuple(updates.delta)
        rows = ExampleRows(known.loss, known.domain.inputs_of(pool), pool.labels, noise, defense, names)
        if defense is not None and "update" in defense.acts_at() and not direction:
            target /= rows.passing(updates, known.model, len(chosen), scale, defense, rng.child("passing"))
        size = max(1, int(self.memory * 2**30 / (8 * _COPIES * target.shape[1])))
        everyone = torch.arange(len(chosen), device=device)
        all_of_it, underway = whole(target, defense), tells_steps(updates, known, defense)
        once = not underway and not all_of_it and size >= len(chosen)  # each update's entries are of the same gradients
        kept = rows.part(everyone, slice(None), rng.child("clipped", 0), known.model) if once else None

        def judged(of: Tensor, columns: Tensor | slice, model: nn.Module) -> Tensor:
            """Scores of the updates ``of``, by the entries in ``columns`` of gradients."""

            def gradients(part: slice) -> Tensor:
                if kept is not None:
                    return kept[part][:, columns]
                return rows.part(everyone[part], columns, rng.child("clipped", part.start), model)

            compared, none = target[of][:, columns], everyone[:0]
            found = products(gradients, len(chosen), compared, none, size)
            if direction:
                found = as_long_as_means(found, none, updates.examples)
            if not found.public.isfinite().all():
                return target.new_zeros(len(of))
            with_it = max(1, round(self.share * updates.examples / updates.contributors))
            if self.classifier == "forest":
                return told_by_forest(found, has, alike, updates.examples, with_it, self.batches, rng.child("forest"))
            added = beyond(found, compared.shape[1])
            told = discriminant(found.public, has, alike, added, updates.examples, with_it, rng.child("discriminant"))
            return ((found.seen.T * told.weights).sum(1) - told.middle) / told.spread

        if all_of_it and not underway:
            scores = judged(torch.arange(len(target), device=device), slice(None), known.model)
            return Scores(scores, scores > 0)
        scores, model = target.new_zeros(len(target)), deepcopy(known.model)
        for n in range(len(target)):
            if underway:
                halfway(model, updates, n)
            one = torch.arange(n, n + 1, device=device)
            scores[n] = judged(one, slice(None) if all_of_it else target[n] != 0, model)[0]
            bench.tick(n + 1, len(target))
        return Scores(scores, scores > 0)

    def _references(self, labels: Tensor, has: Tensor, rng: Rng) -> Tensor:
        """Positions in the adversary's data, of which half have the property if there are as many.

        Of its labels without it there are some in every part of what a direction is made of.
        """
        order = rng.permutation(len(has))
        ours, others = order[has[order]], order[~has[order]]
        alike = torch.isin(labels[others], labels[ours])
        first = alike & (alike.cumsum(0) <= FEWEST)
        some = ours[: max(self.references // 2, self.references - len(others))]
        left = self.references - len(some) - int(first.sum())
        return torch.cat([some, others[first | ((~first).cumsum(0) <= left)]])
