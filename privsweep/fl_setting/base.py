"""What the training settings share: who takes part, what is measured, how an update is exposed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.exposure.black_box import released_round
from privsweep.exposure.updates import KNOWS, NEUTRAL, Capture, ClientContext, check, expose
from privsweep.exposure.victims import VictimChoice
from privsweep.interface.component import component
from privsweep.interface.data import Architecture, Data, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Images, Recipe, Schedule, System, Update
from privsweep.interface.roles import Bench
from privsweep.metric.accuracy import accuracy
from privsweep.training.aggregation import participants
from privsweep.training.local import LocalSchedule
from privsweep.training.optimizer import Optimizer
from privsweep.training.partition import Partition, partition

Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@component
class TrainingSetting:
    """A setting that trains a classifier and exposes captured updates; subclasses say how it is trained."""

    optimizer: Literal["adam", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]  # of sgd; adam ignores it
    batch_size: Count
    checkpoints: list[Annotated[int, Field(ge=0)]]  # rounds whose weights are kept; 0 and the last always are
    victims: Count
    victim_choice: VictimChoice
    victim_seed: Annotated[int, Field(ge=0)] | None  # in place of the run's; None: that one, by captured round
    labels_known: bool  # the adversary is given the labels of the victims' images
    position: Literal["client", "server"]
    capture: Capture
    released: Annotated[int, Field(ge=0)] | Literal["last"]  # rounds of the model that answers as a black box
    candidates: Annotated[int, Field(ge=2)] | None  # whose membership is asked, half of them members; None: all

    exposes: ClassVar[type] = Update
    training_calls: ClassVar[frozenset[str]] = frozenset(
        {"model", "loss", "sample", "example_gradients", "gradient", "update", "server_view", "aggregate"}
    )
    calls: ClassVar[frozenset[str]] = training_calls
    exposure_fields: ClassVar[Mapping[str, Any]] = {
        "victims": 1,
        "victim_choice": "random",
        "victim_seed": None,
        "labels_known": False,
        "position": "server",
        "capture": NEUTRAL,
        "released": "last",
        "candidates": None,
    }

    def shards(self, data: Data, rng: Rng) -> list[Tensor]:
        """Positions of every client's examples in the training split."""
        raise NotImplementedError

    def local_schedule(self) -> LocalSchedule:
        """What a client does between two messages."""
        raise NotImplementedError

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        raise NotImplementedError

    def rule(self) -> Optimizer:
        return Optimizer(self.optimizer, self.lr, self.momentum)

    def network(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the data's device."""
        net = defense.model(model.build(data.domain, rng.child("init")), rng.child("defense"))
        return net.to(data.train.images.device)

    def knows(self) -> frozenset[str]:
        return KNOWS | {"labels"} if self.labels_known else KNOWS

    def length(self) -> int:
        """Rounds (epochs, of central training) from the first to the last."""
        raise NotImplementedError

    def schedule(self, data: Data, rng: Rng) -> Schedule:
        shards = self.shards(data, rng)
        fewest = min(len(s) for s in shards)
        steps = self.length() * self.local_schedule().length(fewest)
        return Schedule(fewest, self.batch_size, steps, self.length(), len(shards), self.fraction_of_clients())

    def recipe(self, data: Data, rng: Rng) -> Recipe:
        schedule = self.schedule(data, rng)
        epochs = schedule.steps / -(-schedule.examples // self.batch_size)
        return Recipe(self.optimizer, self.lr, schedule.steps, self.batch_size, epochs, len(data.train))

    def fraction_of_clients(self) -> float:
        """Of all clients, that take part in a round."""
        return 1.0

    def captured_round(self) -> int:
        return self.length() if self.capture.round == "last" else self.capture.round

    def refuses(self, defense: Defense) -> str | None:
        return None

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng, capturing: bool) -> None:
        kept = sorted({0, self.length(), *self.checkpoints})
        if kept[-1] > self.length():
            raise UserError(f"fl_setting.checkpoints={self.checkpoints}: training ends after {self.length()} rounds")
        used = {"capture.round": self.captured_round()} if capturing else {"released": released_round(self)}
        for key, done in used.items():
            if done not in kept:
                raise UserError(
                    f"fl_setting.{key}={done}: weights are kept after rounds {', '.join(map(str, kept))}; add it to "
                    "fl_setting.checkpoints, or train for longer"
                )
        shards = self.shards(data, rng)
        if not capturing:
            return
        summed = participants(len(shards), self.fraction_of_clients()) if defense.sums_only else 1
        check(shards, self.capture, self.victims, self.position, summed)
        with torch.device("meta"):
            net = model.build(data.domain, rng.child("init")).train(self.capture.mode == "train")
            try:
                net(torch.zeros(self.capture.batch_size, *data.domain.shape))
            except ValueError as error:  # batch normalisation of a single value
                raise UserError(
                    f"fl_setting.capture.batch_size={self.capture.batch_size}: the model cannot be trained on so few "
                    f"images of this size ({error}); take more, fl_setting.capture.mode=eval, or model.norm=group"
                ) from error

    def expose(
        self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench
    ) -> Exposure:
        """Captured updates of ``victims`` victims, and their labels if known."""
        shards = self.shards(data, rng)
        net = self.network(data, model, defense, rng)
        schedule, loss = self.local_schedule(), defense.loss(cross_entropy)
        done = self.captured_round()
        weights = system.snapshots[done]
        if self.capture.step:
            weights = self.local_weights(done, weights, net, shards, data, defense, rng)
        party = ClientContext(data, net, loss, schedule, defense)
        own = rng.child("exposure", done)
        victims = own if self.victim_seed is None else Rng(self.victim_seed)
        out = expose(
            party, weights, shards, self.capture, self.victims, self.position, own, self.victim_choice, victims,
            participants(len(shards), self.fraction_of_clients()),
        )  # fmt: skip
        if not self.labels_known:
            return out
        assert isinstance(out.truth, Images)
        return replace(out, known=replace(out.known, labels=out.truth.labels.clone()))

    def local_weights(
        self,
        done: int,
        weights: Tensors,
        net: nn.Module,
        shards: Sequence[Tensor],
        data: Data,
        defense: Defense,
        rng: Rng,
    ) -> Tensors:
        """The weights of the capture's client after its first ``capture.step`` local steps of the next round."""
        raise NotImplementedError  # settings without local steps refuse capture.step


@dataclass
class Log:
    """Snapshots, the learning curve and the utility, gathered while a federation trains."""

    data: Data
    net: nn.Module
    rounds: int
    checkpoints: Sequence[int]
    bench: Bench
    snapshots: dict[int, Tensors] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)

    def add(self, done: int, weights: Tensors, loss: float | None = None) -> None:
        """After ``done`` rounds. Accuracies cost a pass over the data, so an untrained model has none."""
        if done in (0, self.rounds) or done in self.checkpoints:
            self.snapshots[done] = {name: w.clone() for name, w in weights.items()}
        if loss is None:
            return
        train, test = (accuracy(self.net, weights, s, self.data.domain) for s in (self.data.train, self.data.test))
        self.curve.append({"round": done, "loss": loss, "train_accuracy": train, "test_accuracy": test})
        self.bench.tick(done, self.rounds, loss=loss, train_accuracy=train, test_accuracy=test)

    def system(self) -> System:
        utility = {k: v for k, v in self.curve[-1].items() if k.endswith("accuracy")} if self.curve else {}
        return System(snapshots=self.snapshots, utility=utility, curve=self.curve)


@component
class Federated(TrainingSetting):
    """Several clients, each with its own examples, some of whom take part in a round."""

    clients: Count
    rounds: Annotated[int, Field(ge=0)]
    participation: Fraction  # fraction of the clients drawn for each round; at least one takes part
    partition: Partition
    dirichlet_alpha: Annotated[float, Field(gt=0)]  # of partition=dirichlet: smaller is less even

    def length(self) -> int:
        return self.rounds

    def fraction_of_clients(self) -> float:
        return self.participation

    def shards(self, data: Data, rng: Rng) -> list[Tensor]:
        labels, classes = data.train.labels, data.domain.classes
        return partition(labels, classes, self.clients, self.partition, self.dirichlet_alpha, rng.child("partition"))

    def sampled(self, round_: int, rng: Rng) -> list[int]:
        """The clients that take part in a round, in order (McMahan et al., 2017, algorithm 1)."""
        count = participants(self.clients, self.participation)
        return sorted(rng.child("sampled", round_).permutation(self.clients)[:count].tolist())

    def splits(self, data: Data, shards: Sequence[Tensor]) -> list[ImageSet]:
        return [data.train.take(s.to(data.train.images.device)) for s in shards]
