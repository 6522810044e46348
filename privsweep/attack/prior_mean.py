"""The control that knows the adversary's own data only: their mean image, whoever the victim is."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from privsweep.component import component
from privsweep.game import Activations, Bench, Domain, Knowledge, Reconstruction, Split, Tensors, ThreatModel
from privsweep.immediate import Immediate
from privsweep.randomness import Rng


@component
class PriorMean(Immediate):
    """Answers every image with the mean of the adversary's own images, without using the activations.

    Of all answers that are the same for everybody it has the smallest squared error, if victims are like those images.
    """

    observes: ClassVar[type[Activations] | None] = Activations
    needs: ClassVar[frozenset[str]] = frozenset({"domain", "public"})
    threat: ClassVar[ThreatModel] = ThreatModel("train", frozenset({"client", "server"}), "black-box")

    def fits(self, model: nn.Sequential, domain: Domain, public: Split | None) -> str | None:
        if public is None or not len(public):
            return "the mean image is that of the adversary's own data; hold some out: dataset.prior_size=1000"
        return None

    def __call__(
        self, seen: Activations, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng
    ) -> Reconstruction:
        assert known.domain is not None
        assert known.public is not None
        mean = known.public.images.sum(0, dtype=torch.int64).float() / (255 * len(known.public))
        victims = len(seen.z)
        return Reconstruction(
            images=known.domain.inputs(mean).expand(victims, seen.examples, -1, -1, -1).to(bench.device),
            diverged=torch.zeros(victims, dtype=torch.bool, device=bench.device),
        )
