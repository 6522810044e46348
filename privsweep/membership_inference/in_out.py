"""Attacks that compare shadows which trained on a record with shadows that did not."""

from __future__ import annotations

from functools import partial
from hashlib import blake2b
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from privsweep.interface.component import JudgementOnly, component
from privsweep.interface.data import ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Predictions, Recipe
from privsweep.interface.roles import Bench
from privsweep.membership_inference.queries import MOST, changed
from privsweep.membership_inference.shadow_attack import ShadowAttack, augmentation, told_recipe
from privsweep.training.shadows import answers

_FEW = 2  # times as many records as its shadows a target may have unremarked
_WEIGHT = "weight:"  # names of shadows' weights in what is prepared


@component
class InOutAttack(ShadowAttack):
    """An attack that compares shadows with a record in their training (in) and without it (out).

    Offline, shadows train on public records alone, each on a random half or less, and all candidates are out.
    Online, shadow 2j trains on a random half of the candidates besides, and shadow 2j + 1 on the other half.
    Without ``shadow_size`` a shadow trains on as many records as the target, as far as half of the public ones go.
    """

    online: bool
    queries: JudgementOnly[Annotated[int, Field(ge=1, le=MOST)] | None]  # versions of a record that models are asked of

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.shadows < 2 or (self.online and self.shadows % 2):
            raise UserError(
                f"attack.shadows={self.shadows}: records must be in some of the shadows and out of others; take an "
                "even number"
            )

    @property
    def prepares_from(self) -> frozenset[str]:
        size = {"recipe"} if self.shadow_size is None else set()
        return super().prepares_from | size | ({"candidates"} if self.online else set())

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Shadow weights ``[K, ...]``, and ``inside``, bool ``[K, n]``: public records, then candidates by content."""
        pool, asked = known.prior, 0
        if self.online:
            asked = len(known.candidates)
            pool = pool.with_more(known.candidates.take(by_content(known.candidates)))
        index = self.assigned(len(known.prior), asked, told_recipe(known), rng)
        inside = torch.zeros(self.shadows, len(pool), dtype=torch.bool).scatter_(1, index, True)
        weights = self.trained(known, pool, index, rng, bench)
        return {"inside": inside.to(bench.device), **{_WEIGHT + name: w for name, w in weights.items()}}

    def warnings(self, known: Knowledge) -> list[str]:
        """A line where shadows train on so much fewer records than the target that they stand for another model."""
        told, asked = told_recipe(known), len(known.candidates) if self.online else 0
        wanted = None if told is None else told.examples
        size = self._public(len(known.prior), asked, told) + asked // 2
        if wanted is None or _FEW * size >= wanted:
            return []
        return [
            f"attack.shadows={self.shadows}: train on {size:,} records each, the target on {wanted:,}: they fit theirs "
            f"more closely, which weakens the attack; take a dataset@prior of {2 * wanted:,} images, or more of this "
            "dataset for dataset.prior_size and fewer for dataset.train_size"
        ]

    def _public(self, prior: int, asked: int, recipe: Recipe | None) -> int:
        """How many of the public records a shadow trains on."""
        if self.shadow_size is not None:
            return self.shadow_size
        wanted = None if recipe is None else recipe.examples
        return prior // 2 if wanted is None else min(prior // 2, max(0, wanted - asked // 2))

    def assigned(self, prior: int, asked: int, recipe: Recipe | None, rng: Rng) -> Tensor:
        """Positions ``[K, n]`` of every shadow's records among the public ones and, behind them, the candidates."""
        size = self._public(prior, asked, recipe)
        rows = []
        for k in range(self.shadows):
            own = rng.child("shadow", k, "records").permutation(prior)[:size]
            halves = rng.child("pair", k // 2).permutation(asked).split(max(1, asked // 2))
            rows.append(torch.cat([own, prior + halves[k % 2]]) if asked else own)
        return torch.stack(rows)

    def versions(self, known: Knowledge) -> range:
        """Which versions of a record are asked about: by default also its mirror image where training mirrored some."""
        return range(self.queries or (1 if augmentation(known) == "none" else 2))

    def on_candidates(self, known: Knowledge, prepared: Tensors, rng: Rng, number: int) -> tuple[Tensor, Tensor]:
        """The shadows' probabilities ``[K, M, classes]``, and which of them trained on a candidate, bool ``[K, M]``.

        ``number``: the version of the candidates that they are asked about.

        Raises UserError where half of them or more diverged; fewer that did are left out of what follows. Online then a
        whole pair is left, and so a shadow on either side of every candidate.
        """
        records = known.candidates
        inside = torch.zeros(self.shadows, len(records), dtype=torch.bool, device=records.labels.device)
        if self.online:
            inside[:, by_content(records)] = prepared["inside"][:, len(known.prior) :]
        replies = self._asked(known, prepared, records, rng.child("candidates"), number)
        lost = self.shadows - int(answered(replies).min())
        if 2 * lost >= self.shadows:
            raise UserError(
                f"attack.shadows={self.shadows}: {lost} of them diverged in training; take a smaller attack.lr, or "
                "fl_setting.lr where it is the target's"
            )
        return replies, inside

    def on_prior(self, known: Knowledge, prepared: Tensors, rng: Rng, number: int) -> tuple[Tensor, Tensor]:
        """The same for the public records: ``[K, P, classes]`` and ``[K, P]``."""
        replies = self._asked(known, prepared, known.prior, rng.child("prior"), number)
        return replies, prepared["inside"][:, : len(known.prior)]

    def of_target(self, seen: Predictions, known: Knowledge, records: ImageSet, number: int) -> Tensor:
        """The target's probabilities ``[n, classes]`` for a version of ``records``."""
        if records is known.candidates and number == 0:
            return seen.probabilities
        return seen.ask(changed(known.domain.inputs_of(records), number))

    def _asked(self, known: Knowledge, prepared: Tensors, records: ImageSet, rng: Rng, number: int) -> Tensor:
        change = partial(changed, number=number)
        own = rng.child("version", number) if number else rng
        weights = {name.removeprefix(_WEIGHT): w for name, w in prepared.items() if name.startswith(_WEIGHT)}
        return answers(self.model(known), weights, records, known.domain, own, change)


def answered(replies: Tensor) -> Tensor:
    """How many shadows gave numbers for a record ``[M]``, of their answers ``[K, M, classes]``."""
    return replies.isfinite().all(-1).sum(0)


def by_content(records: ImageSet) -> Tensor:
    """An order ``[n]`` of the records that does not depend on how they are given."""
    images, labels = records.images.cpu().flatten(1).numpy(), records.labels.tolist()
    keys = [
        blake2b(image.tobytes() + str(label).encode()).digest() for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return torch.tensor(order, device=records.labels.device)
