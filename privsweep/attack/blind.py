"""A control that ignores what it sees: the score of a reconstruction without any information."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, ThreatModel, Update
from privsweep.interface.roles import Bench


@component
class Blind(AttackBase):
    """Guesses every image and label without using the captured update.

    ``noise`` draws uniform pixels, ``grey`` answers the middle of the pixel range: of all guesses that
    know nothing it has the smallest expected error when every pixel value is as likely.
    """

    guess: Literal["noise", "grey"]

    observes: ClassVar[type[Update] | None] = Update
    needs: ClassVar[frozenset[str]] = frozenset({"domain"})
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"train"}), frozenset({"client", "server"}), "black-box")

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        victims = len(next(iter(seen.delta.values())))
        shape = (seen.examples, *known.domain.shape)
        pixels, labels = [], []
        for victim in range(victims):
            generator = rng.child("victim", victim).generator()
            drawn = torch.rand(shape, generator=generator)
            pixels.append(drawn if self.guess == "noise" else torch.full(shape, 0.5))
            labels.append(torch.randint(known.domain.classes, (seen.examples,), generator=generator))
        return Reconstruction(
            images=known.domain.inputs(torch.stack(pixels).to(bench.device)),
            diverged=torch.zeros(victims, dtype=torch.bool, device=bench.device),
            labels=torch.stack(labels).to(bench.device),
        )
