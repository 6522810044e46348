"""A toy of released models whose weights give the record away, for what an informed adversary does with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from privsweep.attack.informed_reconstruction import InformedReconstruction
from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Release

SIDE = 8
CALLS: list[int] = []  # models trained in every call of any algorithm
DOMAIN = Domain((1, SIDE, SIDE), 3, (0.2,), (0.5,))


def pictures(n: int, *purpose: str, side: int = SIDE) -> ImageSet:
    """Grey ramps of four numbers each, ``[n, 1, side, side]``, in one of three classes."""
    draws = torch.rand(n, 4, generator=Rng(0).child(*purpose).generator())
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    shape = torch.stack([torch.ones_like(x), x, y, x * y])
    images = torch.einsum("nk,khw->nhw", draws, shape).div(4).mul(255).byte()
    return ImageSet(images[:, None], (draws[:, 0] * 3).long())


@dataclass(frozen=True)
class Averages:
    """Weights are fixed combinations of the mean record, beside numbers that no record touches."""

    fixed: ImageSet
    noise: float = 0.0
    numbers: int = 12
    released: int = 2  # epochs; the models of the first are as good, and other ones

    @property
    def whole(self) -> Averages:
        return replace(self, released=2)

    @property
    def random(self) -> bool:
        return self.noise > 0

    def network(self, rng: Rng) -> nn.Module:
        return network()

    def together(self, device: torch.device) -> int:
        return 50

    def __call__(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[str, Tensor]:
        return self.course(records, present, rngs, watch)[self.released]

    def course(
        self,
        records: ImageSet,
        present: Tensor,
        rngs: Sequence[Rng],
        watch: Callable[[int, int], None] = lambda done, total: None,
    ) -> dict[int, dict[str, Tensor]]:
        CALLS.append(len(rngs))
        pixels = self.fixed.pixels().flatten(1).sum(0) + records.pixels().flatten(1) * present[:, None]
        mean = pixels / (len(self.fixed) + present[:, None])
        mix = Rng(7).normal(mean.shape[1], self.numbers)
        own = torch.stack([rng.normal(self.numbers) for rng in rngs])
        watch(1, 1)
        still = torch.full((len(rngs), 2), 3.0)
        weight = (mean @ mix + self.noise * own)[:, :, None]
        return {n: {"layer.weight": weight / n, "bias": still, "steps": still.long()} for n in (1, 2)}


def attack(**changes: Any) -> InformedReconstruction:
    values = {
        "shadows": 200, "reconstructor": "mlp", "width": 64, "depth": 1, "channels": 8, "limit": None,
        "optimizer": "adam", "lr": 3e-3, "weight_decay": 0.0, "batch_size": 20, "epochs": 30, "perceptual": "none",
        "perceptual_weight": 1.0, "adversarial": 0.0,
        "discriminator_width": 8, "source_shadows": 0, "fine_tune_lr_factor": 0.1, "memory": 1.0,
    }  # fmt: skip
    return InformedReconstruction(**{**values, **changes})


def known(fixed: str = "fixed", prior: int = 300, **changes: Any) -> Knowledge:
    return Knowledge(domain=DOMAIN, algorithm=Averages(pictures(40, fixed), **changes), prior=pictures(prior, "prior"))


def released(about: Knowledge, victims: int = 20) -> tuple[Release, Tensor]:
    """Models with a target each, and the targets' pixels ``[V, C, H, W]``."""
    targets = pictures(victims, "targets")
    rngs = [Rng(1).child("model", k) for k in range(victims)]
    weights = about.algorithm(targets, torch.ones(victims, dtype=torch.bool), rngs)
    return Release(dict(reversed(weights.items()))), targets.pixels()


def network() -> nn.Module:
    """As many weights as the toy has."""
    return nn.Linear(4, 2, bias=True)
