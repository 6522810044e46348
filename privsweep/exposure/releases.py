"""Finished models in the hands of one who knows every record of their training but one (Balle, Cherubin and Hayes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from privsweep.interface.asked import Algorithm
from privsweep.interface.data import Architecture, Data, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, Release, System, Trials
from privsweep.interface.truth import Images, Membership
from privsweep.metric.release import nearest


class Releasing(Protocol):
    """A setting that releases models, as far as its views know it."""

    def targets(self, data: Data, rng: Rng) -> Tensor:
        """Positions ``[V]`` in the test split of the records that are asked about."""
        ...

    def records(self, data: Data, rng: Rng) -> ImageSet:
        """The targets as models are trained on them, ``[V]``."""
        ...

    def algorithm(self, data: Data, model: Architecture, defense: Defense, start: Tensors | None) -> Algorithm:
        """How models are trained from ``start``, the system's round 0; None: each from values of its own."""
        ...


@dataclass(frozen=True)
class ReleaseView:
    """One released model for each target, with which it was trained. Test time, off-path, white box.

    The truth has each target's ``nearest``: its squared distance to the closest record that the adversary knows, which
    is what an adversary without the model could come up with at best.
    """

    setting: Releasing
    each: int  # models a target; the first of them is seen

    observation: ClassVar[type[Release]] = Release
    time: ClassVar[Literal["train", "test"]] = "test"
    position: ClassVar[Literal["client", "server", "off-path"]] = "off-path"
    grants: ClassVar[frozenset[str]] = frozenset({"domain", "loss", "architecture", "algorithm"})
    calls: ClassVar[frozenset[str]] = frozenset({"loss"})

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Fits whatever the setting fits."""

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        targets = self.setting.targets(data, rng)
        at = targets.to(data.test.labels.device)
        algorithm = self.setting.algorithm(data, model, defense, system.snapshots.get(0))
        pixels = data.test.pixels(at)[:, None]
        known = [algorithm.fixed.images] if data.prior is None else [algorithm.fixed.images, data.prior.images]
        truth = Images(pixels, data.test.labels[at][:, None], targets[:, None], nearest(pixels, known))
        seen = Release({name: w[:: self.each].clone() for name, w in system.snapshots[algorithm.released].items()})
        return Exposure(seen, _knowledge(data, model, defense, algorithm), truth, done=algorithm.released)


@dataclass(frozen=True)
class TrialView:
    """Released models, with and without the record that is asked about, in random order. Test time, off-path."""

    setting: Releasing
    models: int  # with each target
    without: int  # and without

    observation: ClassVar[type[Trials]] = Trials
    time: ClassVar[Literal["train", "test"]] = "test"
    position: ClassVar[Literal["client", "server", "off-path"]] = "off-path"
    grants: ClassVar[frozenset[str]] = ReleaseView.grants | {"candidates"}
    calls: ClassVar[frozenset[str]] = frozenset({"loss"})

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where no model was trained without its target."""
        if not self.without:
            raise UserError(
                "fl_setting.without=0: membership is asked of models with a record and of others without it; take "
                f"fl_setting.without={self.models}"
            )

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        targets, each = self.setting.targets(data, rng), self.models + self.without
        order = rng.child("trials").permutation(len(targets) * each)
        index, member = targets[order // each], order % each < self.models
        algorithm = self.setting.algorithm(data, model, defense, system.snapshots.get(0))
        weights = system.snapshots[algorithm.released]
        seen = Trials({name: w[order.to(w.device)] for name, w in weights.items()})
        known = _knowledge(data, model, defense, algorithm).having(
            candidates=self.setting.records(data, rng).take((order // each).to(data.test.labels.device))
        )
        return Exposure(seen, known, Membership(member, index, "trainings"), done=algorithm.released)


def _knowledge(data: Data, model: Architecture, defense: Defense, algorithm: Algorithm) -> Knowledge:
    loss = defense.loss(data.domain.loss)
    return Knowledge(domain=data.domain, loss=loss, architecture=model, algorithm=algorithm)
