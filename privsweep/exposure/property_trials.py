"""Captured updates and the question: are examples with this property behind it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from privsweep.exposure.about_updates import AboutUpdates
from privsweep.exposure.updates import UpdateView
from privsweep.exposure.victims import Victims
from privsweep.interface.beside import Kinds
from privsweep.interface.data import Architecture, Data, image_shape
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Defended, Exposure, PropertyTrials, System
from privsweep.interface.truth import Images, Properties

_LEAST = 8  # images of the adversary with the property, and with its superclass
_SUPERCLASSES = "dataset.superclasses=[[0,1,2,3,4],[5,6,7,8,9]]"


@dataclass(frozen=True)
class PropertyTrialView(AboutUpdates):
    """The updates of an ``UpdateView``; behind every second one are examples with a property, behind the others none.

    The property is to be of one class that is in a superclass with others, so that neither labels nor the task tell of
    it (Melis et al., "Exploiting unintended feature leakage in collaborative learning", IEEE S&P 2019, ask for one that
    the task has nothing to do with). Of two updates a draw says which has it, and the other has as many examples of the
    same superclass instead. All others behind an update, and those of other clients, are any without the property. The
    adversary is told which of its own examples have the property.
    """

    kind: int  # the class that is the property
    share: float  # of the images behind an update with the property that have it, one at least

    observation: ClassVar[type[PropertyTrials]] = PropertyTrials

    @property
    def grants(self) -> frozenset[str]:
        return self.told | {"has_property", "defense"}

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError as the captures do, where nothing is a property, and where there are too few examples."""
        image_shape(data.domain, "attack", "attack=dager")
        self._drawn(data).check(data, model, defense, rng)

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        captured = self._drawn(data)
        out = captured.expose(system, data, model, defense, rng)
        assert isinstance(out.truth, Images)
        assert data.kinds is not None
        assert data.kinds.prior is not None
        known = out.known.only(self.told).having(
            has_property=(data.kinds.prior == self.kind).to(data.train.labels.device),
            defense=Defended(defense, captured.federation.architecture(model)) if defense.acts_at() else None,
        )
        present = (data.kinds.train[out.truth.index.cpu()] == self.kind).any(1)
        seen = PropertyTrials(out.seen)  # type: ignore[arg-type]
        return Exposure(seen, known, Properties(present, out.truth.index), done=out.done)

    def _drawn(self, data: Data) -> UpdateView:
        """The captures, of victims drawn by the property. Raises UserError where there is none."""
        kinds, key = data.kinds, f"fl_setting.property_class={self.kind}"
        victims, capture = self.captured.victims, self.captured.capture
        if data.canaries:
            raise UserError("dataset.canaries: the attack asks about a property and not about wrong labels; take 0")
        if kinds is None:
            raise UserError(
                f"dataset.superclasses=[]: a class that labels tell of is no property; put it with others: "
                f"{_SUPERCLASSES}"
            )
        if self.kind >= len(kinds.superclass):
            raise UserError(f"{key}: classes are numbered 0 to {len(kinds.superclass) - 1}")
        if kinds.superclass.count(kinds.superclass[self.kind]) < 2:
            raise UserError(f"{key}: has a superclass for itself, which labels tell; take a class that is with others")
        if kinds.prior is None:
            raise UserError("dataset.prior_size=0: the adversary needs data of its own to learn from; hold out 1000")
        has, alike = _split(kinds, self.kind, kinds.prior)
        if min(int(has.sum()), int(alike.sum())) < _LEAST:
            raise UserError(
                f"dataset.prior_size={len(has)}: of these images {int(has.sum())} have the property, and "
                f"{int(alike.sum())} its superclass without it; hold out more, for {_LEAST} of either are needed"
            )
        if not self.share:
            raise UserError(
                "fl_setting.property_share=0: no update would have the property; take 0.5 for half of the images "
                "behind every second one"
            )
        if victims.count % 2 or victims.choice != "random":
            raise UserError(
                f"fl_setting.victims={victims.count} and fl_setting.victim_choice={victims.choice}: half of the "
                "updates have the property, by a draw; take an even number, and random"
            )
        return replace(
            self.captured,
            victims=_ByProperty(
                victims.count, victims.choice, victims.seed, kinds, self.kind, self.share, capture.client
            ),
        )


@dataclass(frozen=True)
class _ByProperty(Victims):
    """Victims in pairs, of which one has the property."""

    kinds: Kinds
    kind: int
    share: float
    client: int  # whose updates may have it

    def check(self, client: int, shards: Sequence[Tensor], batch: int) -> None:
        super().check(client, shards, batch)
        has, alike = self._among(shards[client])
        placed = self.count // 2 * self._each(batch) if client == self.client else 0
        for what, those in (("with the property", has), ("of its superclass without it", alike)):
            if placed > int(those.sum()):
                raise UserError(
                    f"fl_setting.property_share={self.share}: {self.count} victims of {batch} images need {placed} "
                    f"{what}, and client {client} holds {int(those.sum())}; take fewer of either"
                )
        if self.count * batch - placed > (held := int((~has).sum())):
            raise UserError(
                f"fl_setting.capture.batch_size={batch}: with fl_setting.victims={self.count} they need "
                f"{self.count * batch - placed} images without the property, and client {client} holds {held}; take a "
                "smaller one, or fewer victims"
            )

    def draw(self, client: int, shard: Tensor, labels: Tensor, batch: int, rng: Rng) -> Tensor:
        """Positions ``[count, batch]``, drawn without replacement; the first stay when more victims are asked for."""
        own = rng if self.seed is None else Rng(self.seed)
        order = shard[own.child("victims", client).permutation(len(shard))]
        has, alike = self._among(order)
        if client != self.client:
            return order[~has][: self.count * batch].view(self.count, batch)
        pairs, each = self.count // 2, self._each(batch)
        placed = torch.stack([order[of][: pairs * each].view(pairs, each) for of in (has, alike)], 1)
        first = [int(own.child("property", pair).permutation(2)[0]) for pair in range(pairs)]
        swapped = torch.tensor(first, dtype=torch.bool)[:, None, None]
        placed = torch.where(swapped, placed.flip(1), placed).view(self.count, each)
        # From the other end, so that these are others than the placed ones without being fewer of their class.
        others = order[~has].flip(0)
        rest = others[~torch.isin(others, placed)][: self.count * (batch - each)].view(self.count, batch - each)
        return torch.cat([placed, rest], 1)

    def _each(self, batch: int) -> int:
        """With the property, of the images behind an update that has it."""
        return max(1, round(self.share * batch))

    def _among(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Of positions in the training split, which have the property, and which have its superclass without it."""
        return _split(self.kinds, self.kind, self.kinds.train[positions])


def _split(kinds: Kinds, kind: int, those: Tensor) -> tuple[Tensor, Tensor]:
    """Of classes ``those``, int64 ``[n]``, which are the one, and which are others of its superclass, bool ``[n]``."""
    superclass = torch.tensor(kinds.superclass)
    return those == kind, (those != kind) & (superclass[those] == superclass[kind])
