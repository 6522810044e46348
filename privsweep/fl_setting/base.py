"""What the training settings share: who takes part, what is measured during training, and what can be seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor, nn

from privsweep.exposure.black_box import BlackBoxView
from privsweep.exposure.client_update import Capture
from privsweep.exposure.federation import check_local_batches
from privsweep.exposure.property_trials import PropertyTrialView
from privsweep.exposure.update_trials import UpdateTrialView
from privsweep.exposure.updates import UpdateView
from privsweep.exposure.victims import VictimChoice, Victims
from privsweep.interface.asked import Retraining
from privsweep.interface.component import ExposureOnly, UnlessZero, component
from privsweep.interface.data import Architecture, Data, Domain, Tensors, images_to_train_on
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Recipe, Schedule, System
from privsweep.interface.roles import Bench, View
from privsweep.interface.training import LocalSchedule, Optimizer
from privsweep.training.aggregation import participants
from privsweep.training.usage import whole

Fraction = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]

_SURELY = 10  # epochs of batches that are drawn anew: one in 22,000 examples is in none of them


class Assembling:
    """How a setting makes the model that it trains."""

    def architecture(self, model: Architecture) -> Architecture:
        """The model as a defence finds it."""
        return model

    def plain(self, domain: Domain, model: Architecture, rng: Rng) -> nn.Module:
        """The same, freshly initialised."""
        return self.architecture(model).build(domain, rng)

    def assembled(self, domain: Domain, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the device in force."""
        return defense.model(self.plain(domain, model, rng.child("init")), rng.child("defense"))

    def network(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The same on the data's device."""
        return self.assembled(data.domain, model, defense, rng).to(data.train.labels.device)


@component
class TrainingSetting(Assembling, ABC):
    """A setting that trains a model, which answers queries; subclasses say how, and what else is seen of it."""

    optimizer: Literal["adam", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]  # of sgd; adam ignores it
    batch_size: Count
    checkpoints: list[Annotated[int, Field(ge=0)]]  # rounds whose weights are kept; 0 and the last always are
    evaluate_every: Count | None  # rounds between two measurements of accuracy; the last and those kept always have one
    victims: ExposureOnly[Count]
    victim_choice: ExposureOnly[VictimChoice]
    victim_seed: ExposureOnly[Annotated[int, Field(ge=0)] | None]  # in place of the run's
    released: ExposureOnly[Annotated[int, Field(ge=0)] | Literal["last"]]  # rounds of the model that answers
    candidates: ExposureOnly[Annotated[int, Field(ge=2, multiple_of=2)] | None]  # whose membership is asked; None: all

    training_calls: ClassVar[frozenset[str]] = frozenset(
        {"model", "loss", "sample", "example_gradients", "batch_gradient", "gradient"}
        | {"update", "server_view", "aggregate"}
    )

    @abstractmethod
    def shards(self, data: Data, rng: Rng) -> Sequence[Tensor]:
        """Positions of every client's examples in the training split."""

    @abstractmethod
    def local_schedule(self) -> LocalSchedule:
        """What a client does between two messages."""

    @abstractmethod
    def length(self) -> int:
        """Rounds (epochs, of central training) from the first to the last."""

    @abstractmethod
    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System: ...

    @abstractmethod
    def views(self) -> Sequence[View]:
        """What adversaries see, the usual view first."""

    def _victims(self) -> Victims:
        return Victims(self.victims, self.victim_choice, self.victim_seed)

    def _black_box(self) -> BlackBoxView:
        return BlackBoxView(self, self.released, self.candidates)

    def rule(self) -> Optimizer:
        return Optimizer(self.optimizer, self.lr, self.momentum)

    def schedule(self, data: Data, rng: Rng) -> Schedule:
        shards, local = self.shards(data, rng), self.local_schedule()
        sizes = sorted({len(shard) for shard in shards})
        (fewest, steps), *larger = ((size, self.length() * local.length(size)) for size in sizes)
        share = self.fraction_of_clients()
        return Schedule(fewest, self.batch_size, steps, self.length(), len(shards), share, tuple(larger))

    def recipe(self, data: Data, rng: Rng, done: int) -> Recipe:
        """How one client trains in the first ``done`` rounds; the steps are those of the one with the fewest examples.

        Epochs are the mean over all clients: ``done`` times the share of them that take part in a round, times the
        epochs of one, or what its steps make of a client of mean size.
        """
        sizes, local = [len(s) for s in self.shards(data, rng)], self.local_schedule()
        mean, share = sum(sizes) / len(sizes), self.participants(len(sizes)) / len(sizes)
        each = local.epochs if local.steps is None else local.steps * min(self.batch_size, mean) / mean
        steps, epochs = done * local.length(min(sizes)), done * share * each
        rule, examples = self.rule(), len(data.train)
        told = (rule.name, rule.lr, rule.momentum, steps, self.batch_size, epochs, examples)
        share = done / self.length() if self.length() else 1.0
        return Recipe(*told, weight_decay=rule.weight_decay, decay=rule.decay, share=share)

    def again(self, data: Data, model: Architecture, done: int) -> Retraining | None:
        """Its first ``done`` rounds, to be repeated with other records; None where one party holds all of them."""
        return None

    @abstractmethod
    def used(self, data: Data, defense: Defense, rng: Rng, done: int) -> Tensor:
        """Positions in the training split, ascending, of what was trained on in the first ``done`` rounds."""

    def uses_all(self, defense: Defense, done: int) -> bool:
        """Whether those are all positions, whatever is drawn; False: maybe not."""
        local = self.local_schedule()
        drawn = "sample" in defense.acts_at() and done * local.epochs >= _SURELY
        return done > 0 and (whole(local, defense) or (drawn and local.steps is None))

    def fraction_of_clients(self) -> float:
        """Of all clients, that take part in a round."""
        return 1.0

    def participants(self, clients: int) -> int:
        """How many of that many clients take part in a round."""
        return participants(clients, self.fraction_of_clients())

    def refuses(self, defense: Defense) -> str | None:
        if "fit" in defense.acts_at() - self.training_calls:
            return (
                "one that trains in stages needs all data in one place; take fl_setting=central or "
                "fl_setting=collaborative_inference"
            )
        return None

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError for checkpoints after the end, where the clients cannot have the data, and where the model
        cannot be trained on one of their batches."""
        images_to_train_on(data)
        if max(self.checkpoints, default=0) > self.length():
            raise UserError(
                f"fl_setting.checkpoints={self.checkpoints}: training ends after {self.length()}; take none beyond, or "
                "train for longer"
            )
        shards = self.shards(data, rng)
        if self.length() and "sample" not in defense.acts_at():
            key, held = f"fl_setting.batch_size={self.batch_size}", [len(shard) for shard in shards]
            check_local_batches(key, self.local_schedule(), held, self.architecture(model), data, rng)

    def local_weights(
        self, done: int, weights: Tensors, client: int, steps: int, data: Data, model: Architecture, defense: Defense,
        rng: Rng,
    ) -> Tensors:  # fmt: skip
        """The weights of ``client`` after its first ``steps`` local steps of the round that follows round ``done``."""
        raise UserError(f"fl_setting.capture.step={steps}: clients of this setting take no local steps; take 0")


@component
class UpdateSetting(TrainingSetting):
    """A setting some of whose updates are captured."""

    labels_known: ExposureOnly[bool]  # the adversary is given the labels of the victims' images
    position: ExposureOnly[Literal["client", "server"]]
    capture: ExposureOnly[Capture]

    def views(self) -> Sequence[View]:
        captured = UpdateView(self, self.capture, self._victims(), self.position, self.labels_known)
        return captured, self._black_box(), UpdateTrialView(captured, self.candidates)


@component
class AskedForProperties(UpdateSetting):
    """A setting of whose updates it is asked, too, whether images of a class are behind them."""

    property_class: ExposureOnly[UnlessZero[Annotated[int, Field(ge=0)]]]  # of the dataset, before superclasses
    property_share: ExposureOnly[UnlessZero[Annotated[float, Field(ge=0, le=1)]]]  # of it behind every second update

    def views(self) -> Sequence[View]:
        captured, *others = super().views()
        assert isinstance(captured, UpdateView)
        return captured, *others, PropertyTrialView(captured, self.property_class, self.property_share)
