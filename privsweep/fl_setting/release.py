"""Released models: each is trained on a fixed set and one more record, and handed out when it is finished."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from privsweep.exposure.releases import ReleaseView, TrialView
from privsweep.exposure.victims import VictimChoice, Victims
from privsweep.fl_setting.base import Assembling
from privsweep.interface.component import ExposureOnly, ResourceOnly, UnlessZero, component
from privsweep.interface.data import Architecture, Data, ImageSet, Tensors, image_shape, images_to_train_on
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule, System
from privsweep.interface.roles import Bench, View
from privsweep.interface.training import Optimizer, replica
from privsweep.interface.wrong_labels import wrong
from privsweep.metric.utility import released_utility
from privsweep.training.gradient_zeros import ZeroShares, check_apart, mean_share
from privsweep.training.local import weights_of
from privsweep.training.release import LayersAlone, ReleaseTraining

Count = Annotated[int, Field(ge=1)]


@component
class ReleasedModels(Assembling):
    """Gradient descent with momentum on all records at once: the training split, which is fixed, and a target.

    Balle, Cherubin and Hayes, "Reconstructing training data with informed adversaries" (2022), table IV. Targets are
    drawn from the test split; for each, ``models`` models are trained with it and ``without`` models without it. The
    adversary knows all but the target: the fixed set, how the models are trained, and, with ``init=shared``, where they
    start from. With ``init=fresh`` every model has initial values of its own, which nobody else knows.

    With ``released`` the adversary sees the models as they were after one of ``checkpoints``. Runs that differ in it
    alone share one training, of the adversary's own models too.

    With ``pretrain_size`` the models start near convergence: from one that was trained for ``pretrain_epochs`` epochs
    on so many of the training images, which are not in the fixed set then (section C), of the defence with its layers
    alone.

    ``zero_gradients``: measures in every epoch which share of each layer's weights has a gradient of exactly zero for
    the target's loss (figure 16), in the learning curve, and the mean over the epochs as ``zero_gradients_<layer>``,
    with its 95% interval over targets.

    ``canaries``: targets have a label that is drawn among the wrong ones, which models must learn by heart: an audit of
    a privacy budget finds them more easily.
    """

    epochs: Count
    checkpoints: list[Count]
    released: ExposureOnly[Count | Literal["last"]]
    optimizer: Literal["sgd"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    init: Literal["shared", "fresh"]
    pretrain_size: Annotated[int, Field(ge=0)]
    pretrain_epochs: Annotated[int, Field(ge=0)]
    victims: Count
    victim_choice: VictimChoice
    victim_seed: Annotated[int, Field(ge=0)] | None
    canaries: UnlessZero[bool]
    models: Count
    without: Annotated[int, Field(ge=0)]
    zero_gradients: bool
    memory: ResourceOnly[Annotated[float, Field(gt=0)]]  # GiB for the models that are trained together

    training_calls: ClassVar[frozenset[str]] = frozenset({"model", "loss", "example_gradients", "gradient"})
    reports: ClassVar[frozenset[str]] = frozenset({"start_test_accuracy", "zero_gradients"})

    def __post_init__(self) -> None:
        if bool(self.pretrain_size) != bool(self.pretrain_epochs):
            raise UserError(
                f"fl_setting.pretrain_size={self.pretrain_size} fl_setting.pretrain_epochs={self.pretrain_epochs}: "
                "one goes with the other; give both, or take 0 for both"
            )
        if self.pretrain_size and self.init == "fresh":
            raise UserError(
                "fl_setting.init=fresh: models that are trained further all start from the pre-trained one; take "
                "fl_setting.init=shared, or fl_setting.pretrain_size=0 fl_setting.pretrain_epochs=0"
            )

        if max(self.checkpoints, default=0) > self.epochs:
            raise UserError(
                f"fl_setting.checkpoints={self.checkpoints}: training ends after {self.epochs} epochs; take none beyond"
            )

    def views(self) -> Sequence[View]:
        return ReleaseView(self, self.models + self.without), TrialView(self, self.models, self.without)

    def refuses(self, defense: Defense) -> str | None:
        if "sample" in defense.acts_at():
            return (
                "one that draws batches has nothing to draw where every step is on all records; leave it out, or of "
                "dp_sgd take defense.dp_sgd.poisson=false"
            )
        if "fit" in defense.acts_at():
            return (
                "one that trains in stages does not go with fl_setting=release; take fl_setting=central or "
                "fl_setting=collaborative_inference"
            )
        return None

    def schedule(self, data: Data, rng: Rng) -> Schedule:
        records = len(data.train) - self.pretrain_size + 1
        return Schedule(records, records, self.epochs, self.epochs, clients=1, participation=1.0)

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the splits are too small, or where the fixed set holds a target."""
        image_shape(data.domain, "fl_setting=release", "another fl_setting")
        images_to_train_on(data)
        if (there := len(data.test)) < max(self.victims, 2):
            raise UserError(
                f"fl_setting.victims={self.victims}: targets are test images, and a model is judged on the others, of "
                f"which there are {there} in all; take {'fewer' if there > 1 else 'a dataset.test_size of 2 or more'}"
            )
        if self.pretrain_size >= len(data.train):
            raise UserError(
                f"fl_setting.pretrain_size={self.pretrain_size}: leaves nothing of {len(data.train)} training images "
                "for the fixed set; take fewer"
            )
        if self.released != "last" and self.released not in (*self.checkpoints, self.epochs):
            raise UserError(
                f"fl_setting.released={self.released}: models are kept after {self._kept()} epochs; add it to "
                "fl_setting.checkpoints"
            )
        if self.zero_gradients:
            with torch.device("meta"):
                check_apart(self.assembled(data.domain, model, defense, rng))
        if data.train.images.is_meta:
            return
        fixed, targets = self.fixed(data), self.targets(data, rng)
        held = {image.tobytes() for image in fixed.images.cpu().numpy()}
        inside = [i for i in targets.tolist() if data.test.images[i].cpu().numpy().tobytes() in held]
        if inside:
            raise UserError(
                f"dataset: the fixed set holds {len(inside)} of the targets (test image {inside[0]}), who would then "
                "be known; take other data, fewer fl_setting.victims, or another fl_setting.victim_seed"
            )

    def fixed(self, data: Data) -> ImageSet:
        """The records that all models are trained on, and the adversary knows."""
        return data.train.take(torch.arange(self.pretrain_size, len(data.train), device=data.train.labels.device))

    def targets(self, data: Data, rng: Rng) -> Tensor:
        """Positions ``[V]`` in the test split."""
        victims = Victims(self.victims, self.victim_choice, self.victim_seed)
        shard = torch.arange(len(data.test))
        return victims.draw(0, shard, data.test.labels.cpu(), 1, rng.child("targets"))[:, 0]

    def records(self, data: Data, rng: Rng) -> ImageSet:
        """The targets as models are trained on them."""
        found = data.test.take(self.targets(data, rng).to(data.test.labels.device))
        if not self.canaries:
            return found
        return replace(found, labels=wrong(found.labels, data.domain.classes, rng.child("wrong labels")))

    def algorithm(self, data: Data, model: Architecture, defense: Defense, start: Tensors | None) -> ReleaseTraining:
        """How every model is trained from ``start``, but for its own record, until it is handed out."""
        last = None if self.released == "last" or self.released == self.epochs else self.released
        return replace(self._training(data, model, defense, start), last=last)

    def _training(self, data: Data, model: Architecture, defense: Defense, start: Tensors | None) -> ReleaseTraining:
        rule, early = Optimizer("sgd", self.lr, self.momentum), tuple(self._kept()[:-1])
        return ReleaseTraining(
            model, data.domain, self.fixed(data), defense, rule, self.epochs, start, self.memory, early
        )

    def _kept(self) -> list[int]:
        """Epochs after which models are kept."""
        return sorted({*self.checkpoints, self.epochs})

    def _start(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Tensors | None:
        """What all models start from, pre-trained where that is wanted; None where each has values of its own."""
        if self.init == "fresh":
            return None
        start = weights_of(self.network(data, model, defense, rng))
        if not self.pretrain_size:
            return start
        first = torch.arange(self.pretrain_size, device=data.train.labels.device)
        earlier = replace(
            self._training(data, model, LayersAlone(defense), start),
            fixed=data.train.take(first), epochs=self.pretrain_epochs, checkpoints=(),
        )  # fmt: skip
        trained = earlier(data.train.take(first[:1]), torch.tensor([False]), [rng.child("pretrained")])
        return replica(trained, 0)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        start, targets = self._start(data, model, defense, rng), self.targets(data, rng)
        training = self._training(data, model, defense, start)
        # Where nothing is drawn, all models of a kind are one.
        models, without = (self.models, self.without) if training.random else (1, min(self.without, 1))
        kinds = models + without
        records = self.records(data, rng)
        net = self.network(data, model, defense, rng)

        def make(part: slice) -> Tensors:
            numbers = torch.arange(part.start, part.stop)
            own = records.take((numbers // kinds).to(records.labels.device))
            rngs = [rng.child("released", n // kinds, n % kinds) for n in numbers.tolist()]
            watched = ZeroShares(net, defense.loss(data.domain.loss), data.domain, own, self.epochs)
            each = watched if self.zero_gradients else None
            course = training.course(own, numbers % kinds < models, rngs, bench.tick, each)
            weights = {_named(epoch, name): w for epoch, kept in course.items() for name, w in kept.items()}
            return {**weights, **{f"{_ZEROS}{name}": shares for name, shares in watched.shares.items()}}

        size = training.together(bench.device)
        made = bench.chunks("released", "trained", self.victims * kinds, size, make)
        each_zeros = {name.removeprefix(_ZEROS): z for name, z in made.items() if name.startswith(_ZEROS)}
        zeros = {name: z.mean(0) for name, z in each_zeros.items()}
        course = {epoch: {name: made[_named(epoch, name)] for name in net.state_dict()} for epoch in self._kept()}
        reached = {
            epoch: released_utility(net, data, training.fixed, start, w, targets, kinds) for epoch, w in course.items()
        }
        curve = [
            {
                "round": float(epoch),
                **{f"zero_gradients_{name}": z[epoch - 1].item() for name, z in zeros.items()},
                **reached.get(epoch, {}),
            }
            for epoch in (range(1, self.epochs + 1) if zeros else self._kept() if self.checkpoints else [])
        ]
        utility = {
            **reached[self.epochs],
            **{key: x for name, z in each_zeros.items() for key, x in mean_share(name, z.mean(1)).items()},
        }
        copies = torch.tensor([self.models // models] * models + [self.without // max(without, 1)] * without)
        every = torch.arange(self.victims * kinds).repeat_interleave(copies.repeat(self.victims))
        snapshots = {
            epoch: {name: w[every.to(w.device)] for name, w in weights.items()} for epoch, weights in course.items()
        }
        return System(snapshots=snapshots if start is None else {0: start} | snapshots, utility=utility, curve=curve)


_ZEROS = "zero gradients:"


def _named(epoch: int, name: str) -> str:
    """A parameter or buffer of the models after so many epochs."""
    return f"{epoch}:{name}"
