"""What attacks with shadow models share: how the shadows are trained, and on which records."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.exposure.federation import batch_fault
from privsweep.interface.component import BesideDefense, ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Observation, Predictions, Recipe, ThreatModel
from privsweep.interface.roles import Bench, View
from privsweep.interface.training import Augmentation, LocalSchedule, Optimizer
from privsweep.membership_inference.auxiliary_data import unfit
from privsweep.model.blocks import IN_GROUPS
from privsweep.training.frozen import client_mode
from privsweep.training.shadows import ShadowModel, train_shadows


@component
class ShadowAttack:
    """A black-box attack that trains shadow models on data of its own, the way the target was trained or another.

    Shadows are trained under the target's defence, for the papers train them as the target was (Shokri et al., 2017,
    section V.B; Carlini et al., 2022, algorithm 1): an attack that knows nothing of a defence makes it look better than
    it is. An architecture of the attack's own gets none of the defence's layers.
    """

    shadow: Any  # "target" (the target's architecture), or an architecture
    shadows: Annotated[int, Field(ge=1)]
    shadow_size: Annotated[int, Field(ge=1)] | None  # public records in one shadow's training
    epochs: Annotated[int, Field(ge=1)] | None  # None, here and below: as the target's clients train
    optimizer: Literal["adam", "sgd"] | None
    lr: Annotated[float, Field(gt=0)] | None
    momentum: Annotated[float, Field(ge=0, lt=1)] | None  # of sgd
    batch_size: Annotated[int, Field(ge=1)] | None
    shadows_defended: BesideDefense[bool]  # trained under the target's defence; False: as if it had none
    memory: ResourceOnly[Annotated[float, Field(gt=0)]]  # GiB for the shadows trained at once

    observes: ClassVar[type] = Predictions

    def __post_init__(self) -> None:
        if self.shadow != "target" and not hasattr(self.shadow, "build"):
            raise UserError(
                f"attack.shadow={self.shadow}: is no architecture; take attack.shadow=target, or "
                "+model@attack.shadow=smlp"
            )

    @property
    def version(self) -> int:
        """1: the recipe that shadows follow is that of the released model, with weight decay and augmentation.

        2: where the target is a federation's, so are they.
        """
        return 2 if self._follows else int("recipe" in self.prepares_from)

    @property
    def _own_recipe(self) -> tuple[Any, ...]:
        return self.epochs, self.optimizer, self.lr, self.momentum, self.batch_size

    @property
    def _follows(self) -> bool:
        """Whether shadows are the target's in all, so that its training can be repeated for them."""
        return self.shadow == "target" and all(value is None for value in self._own_recipe)

    @property
    def threat(self) -> ThreatModel:
        return ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "black-box", adaptive=self.shadows_defended)

    @property
    def needs(self) -> frozenset[str]:
        return self.prepares_from | {"candidates"}

    @property
    def prepares_from(self) -> frozenset[str]:
        own = {"prior", "domain"}
        if self.shadow == "target":
            own.add("architecture")
        if None in self._own_recipe:
            own.add("recipe")
        if self.shadows_defended:
            own.add("defense")
        return frozenset(own)

    def refuses(self, view: View) -> str | None:
        return None

    def victims_at_once(self, seen: Observation, known: Knowledge, device: torch.device) -> int | None:
        return None

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if self.shadow != "target":
            self.shadow.build(domain, Rng(0))  # refuses a domain that it does not fit
        half = None if prior is None else len(prior) // 2
        remedy = f"attack.shadow_size={half} or " if self.shadow_size and half else ""
        return unfit(
            prior, domain, 2 * (self.shadow_size or 1), f"attack.shadow_size={shown(self.shadow_size)}", remedy
        )

    def model(self, known: Knowledge) -> ShadowModel:
        """What the shadows are: the target's architecture or the attack's own, under the defence where it is told."""
        told = known.defense if "defense" in known.granted() else None
        if self.shadow != "target":
            return ShadowModel(self.shadow, told.defense if told else Defense(), whole=False)
        return ShadowModel(told.architecture, told.defense) if told else ShadowModel(known.architecture)

    def trained(self, known: Knowledge, pool: ImageSet, index: Tensor, rng: Rng, bench: Bench) -> Tensors:
        """Weights ``[K, ...]`` of shadows trained on ``pool`` at ``index`` ``[K, n]``.

        By clients among whom a shadow's records are shared out, where the target has such and nothing else is asked
        for: one party, as often over its records as a client, fits them more closely than the clients' mean does.
        """
        model, told = self.model(known), told_recipe(known)
        if not (self._follows and told and told.again):
            schedule, augment = self.schedule(known), augmentation(known)
            _check_batch(model, known.domain, schedule, index.shape[1])
            return train_shadows(model, pool, index, known.domain, schedule, rng, bench, self.memory, augment)
        again, rows = told.again, index.to(pool.labels.device)

        def make(part: slice) -> Tensors:
            [k] = range(part.start, part.stop)
            weights = again(pool.take(rows[k]), model.defense, rng.child("shadow", k))
            bench.tick(1, 1, shadows=len(index))
            return {name: w[None] for name, w in weights.items()}

        return bench.chunks("shadows", "trained", len(index), 1, make)

    def schedule(self, known: Knowledge) -> LocalSchedule:
        """How a shadow trains: whole epochs, as often as a client of the target uses each of its examples.

        Of a model released before the end of its training, they end as early on the curve of its learning rate. The
        weight decay, and how the rate changes, are the target's, unless all is given that has a key
        of its own.
        """
        told = told_recipe(known) or Recipe("", 0.0, 0.0, 0, 0, 0.0)
        epochs = self.epochs or max(1, round(told.epochs or 0))
        momentum = told.momentum if self.momentum is None else self.momentum
        name, lr = self.optimizer or told.optimizer, self.lr or told.lr
        share = told.share if self.epochs is None else 1.0
        rule = Optimizer(name, lr, momentum, told.weight_decay, told.decay, share)  # type: ignore[arg-type]
        return LocalSchedule(rule, epochs, None, self.batch_size or told.batch_size)


def _check_batch(model: ShadowModel, domain: Domain, schedule: LocalSchedule, records: int) -> None:
    """Raises UserError where a shadow cannot be trained on its smallest batch."""
    least = min(schedule.sizes(records))
    with torch.device("meta"):
        fault = batch_fault(client_mode(model.build(domain, Rng(0)), "train"), domain, least)
    if fault:
        raise UserError(
            f"attack.shadow_size: {records} records make a batch of {least}, and {fault}; take another size, another "
            f"attack.batch_size or dataset.prior_size, or {IN_GROUPS}"
        )


def told_recipe(known: Knowledge) -> Recipe | None:
    """How the target's clients train, where that is granted."""
    return known.recipe if "recipe" in known.granted() else None


def augmentation(known: Knowledge) -> Augmentation:
    """What the target's training does to its images, where that is granted."""
    told = told_recipe(known)
    return "none" if told is None else told.augment
