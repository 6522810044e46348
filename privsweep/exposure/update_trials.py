"""Captured updates and the question: was this record behind that one?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from privsweep.exposure.about_updates import AboutUpdates
from privsweep.interface.data import Architecture, Data, image_shape
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Defended, Exposure, System, UpdateTrials
from privsweep.interface.truth import Images, Membership


@dataclass(frozen=True)
class UpdateTrialView(AboutUpdates):
    """The updates of an ``UpdateView``; of each it is asked which images are behind it, half of those in question.

    The others are images of the same clients, so that nothing but the update tells them apart. Who is asked about does
    not depend on the other updates.
    """

    candidates: int | None  # of all updates together, half of them members; None: as many as there are

    observation: ClassVar[type[UpdateTrials]] = UpdateTrials

    @property
    def grants(self) -> frozenset[str]:
        return self.told | {"candidates", "defense"}

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError as the captures do, and where there are too few images, behind updates or behind none."""
        image_shape(data.domain, "attack", "attack=dager")
        self.captured.check(data, model, defense, rng)
        capture = self.captured.capture
        held = len(self.captured.federation.shards(data, rng)[capture.client])
        self._each(capture.batch_size, held - capture.batch_size)

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        out = self.captured.expose(system, data, model, defense, rng)
        assert isinstance(out.truth, Images)
        behind, own = out.truth.index, rng.child("exposure", "candidates")
        shards = self.captured.federation.shards(data, rng)
        drawn = [self._asked(shards, images, own.child("victim", v)) for v, images in enumerate(behind)]
        index, member = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        asked = torch.arange(len(behind)).repeat_interleave(len(index) // len(behind))
        at = index.to(data.train.labels.device)
        architecture = self.captured.federation.architecture(model)
        known = out.known.only(self.told).having(
            candidates=data.train.take(at),
            defense=Defended(defense, architecture) if defense.acts_at() else None,
        )
        seen = UpdateTrials(out.seen, asked)  # type: ignore[arg-type]
        # Who is behind another update is not behind this one, and with every class behind it an image's own tells.
        fair = (member | ~torch.isin(index, behind)) & (self.captured.victims.choice == "random")
        return Exposure(seen, known, Membership(member, index, fair=fair), done=out.done)

    def _asked(self, shards: Sequence[Tensor], behind: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """Positions of the images that are asked of one update, in a random order, and which of them are behind it."""
        sending = torch.cat([shard for shard in shards if torch.isin(shard, behind).any()])
        others = sending[~torch.isin(sending, behind)]
        each = self._each(len(behind), len(others))
        inside = behind[rng.child("members").permutation(len(behind))[:each]]
        outside = others[rng.child("others").permutation(len(others))[:each]]
        order = rng.child("order").permutation(2 * each)
        return torch.cat([inside, outside])[order], (torch.arange(2 * each) < each)[order]

    def _each(self, behind: int, left: int) -> int:
        """Members, and as many others, that are asked of one update."""
        victims, most = self.captured.victims.count, min(behind, left)
        if most < 1:
            raise UserError(
                f"fl_setting.capture.batch_size={behind}: the client has no images but these to ask about; take a "
                "smaller one, or more images"
            )
        if self.candidates is None:
            return most
        each, left_over = divmod(self.candidates, 2 * victims)
        if left_over or not 0 < each <= most:
            fits = min(most, max(1, each)) * 2 * victims
            raise UserError(
                f"fl_setting.candidates={self.candidates}: as many are asked of each of {victims} updates, half of "
                f"them behind it, {2 * most} at most; take {fits}, or null for all"
            )
        return each
