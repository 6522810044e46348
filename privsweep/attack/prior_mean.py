"""A control that knows only the adversary's own data: it answers with their mean image."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors, image_shape
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Knowledge, ThreatModel
from privsweep.interface.roles import Bench


@component
class PriorMean(AttackBase):
    """Answers every image with the mean of the adversary's own images, without using the activations.

    Of all answers that are the same for everybody it has the smallest squared error, if victims are like those images.
    """

    observes: ClassVar[type[Activations] | None] = Activations
    needs: ClassVar[frozenset[str]] = frozenset({"domain", "prior"})
    threat: ClassVar[ThreatModel] = ThreatModel(
        frozenset({"train", "test"}), frozenset({"client", "server"}), "black-box"
    )

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        image_shape(domain, "attack", "attack=shadow_transcription")
        if prior is None or not len(prior):
            return "the mean image is that of the adversary's own data; hold some out: dataset.prior_size=1000"
        return None

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction:
        victims = len(seen.z)
        return Reconstruction(
            images=known.domain.inputs(known.prior.mean()).expand(victims, seen.examples, -1, -1, -1).to(bench.device),
            diverged=torch.zeros(victims, dtype=torch.bool, device=bench.device),
        )
