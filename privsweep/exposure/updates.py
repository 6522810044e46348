"""What the adversary captures of a federation: one client's update, or what is left of an aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from privsweep.exposure.client_update import Capture, ClientContext, Sent, check_all_used
from privsweep.exposure.federation import Federation, check_batch, check_kept, check_local_batches, finished
from privsweep.exposure.update_measures import noise_floors, update_norms
from privsweep.exposure.victims import Victims, choose_participants, others
from privsweep.interface.data import Architecture, Data, Tensors, TextDomain, TokenSet
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, Recipe, Schedule, System, Update
from privsweep.interface.truth import Images, Sentences, Truth
from privsweep.model.blocks import IN_GROUPS
from privsweep.training.aggregation import server_mean, weighted_mean
from privsweep.training.frozen import client_mode
from privsweep.training.stacked import mixes_examples


@dataclass(frozen=True)
class UpdateView:
    """One captured update for each victim, as the server or another client gets it. Zen, section 4.1: train time.

    The server sees the victim client's update; where a defence leaves it sums only, the mean of a round's, as far as
    they get through, and all these clients' images are behind it. Another client sees the aggregate of all that take
    part in the round and takes off its own update: with two the victim's alone is left, with more the mean of the
    others'. Victim and listener always take part, whatever the fraction of clients. Running statistics go with the
    update, as in training: of several clients their mean.
    Victims are drawn without replacement from the client's examples, so no image is attacked twice.
    Clients weigh alike, for they hold batches of one size.
    """

    federation: Federation
    capture: Capture
    victims: Victims
    position: Literal["client", "server"]
    labels_known: bool

    observation: ClassVar[type[Update]] = Update
    reports: ClassVar[frozenset[str]] = frozenset({"update_norm", "noise_floor_mse"})
    time: ClassVar[Literal["train", "test"]] = "train"

    @property
    def grants(self) -> frozenset[str]:
        return frozenset({"model", "loss", "domain", "recipe"} | ({"labels"} if self.labels_known else set()))

    @property
    def calls(self) -> frozenset[str]:
        points = {"model", "loss", "example_gradients", "batch_gradient", "gradient", "update", "server_view"}
        trains = self.capture.what == "difference" or self.capture.step > 0
        return frozenset(points | ({"sample"} if trains else set()) | ({"aggregate"} if self._listens else set()))

    @property
    def version(self) -> int:
        """1: a client listens to those that take part in a round, where that is not all."""
        return int(self._listens and self.federation.fraction_of_clients() < 1)

    @property
    def message(self) -> Schedule:
        """How often one message uses the images behind it."""
        local, size = self.federation.local_schedule(), self.capture.batch_size
        batch, steps = (size, 1) if self.capture.what == "gradient" else (local.batch_size, local.length(size))
        return Schedule(size, batch, steps, rounds=1, clients=1, participation=1.0)

    @property
    def _listens(self) -> bool:
        return self.position == "client"

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where rounds, clients or examples do not suffice, or the model cannot take the batch."""
        self.victims.check_choice(data.train.labels)
        check_kept(self.federation, "capture.round", self.capture.round)
        shards = self.federation.shards(data, rng)
        self._check_step(len(self._senders(shards, defense)))
        steps = self.federation.local_schedule().length(len(shards[self.capture.client]))
        if self.capture.step > steps:
            raise UserError(
                f"fl_setting.capture.step={self.capture.step}: client {self.capture.client} takes {steps} steps in a "
                f"round; take {steps} or less"
            )
        self._check_mode(data, model, rng)
        self._check_batches(len(shards[self.capture.client]), data, model, defense, rng)

    def behind(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> int:
        """Examples behind one update, if nobody drops out."""
        senders = len(self._senders(self.federation.shards(data, rng), defense)) - self._listens
        return senders * self.capture.batch_size

    def _check_step(self, senders: int) -> None:
        """Raises UserError for a step within a round whose weights are not those that all of the update comes from."""
        step = self.capture.step
        if step and self.capture.what == "difference":
            raise UserError(
                f"fl_setting.capture.step={step}: a difference is of a whole local training, which begins with the "
                "round's weights; take 0, or fl_setting.capture.what=gradient"
            )
        if step and senders > 1:
            raise UserError(
                f"fl_setting.capture.step={step}: within a round each of the {senders} clients whose sum is seen has "
                "weights of its own; take 0, or fl_setting.position=server without secure aggregation"
            )

    def _check_mode(self, data: Data, model: Architecture, rng: Rng) -> None:
        """Raises UserError where an attack would compute gradients in a mode in which clients do not train."""
        if self.capture.what == "gradient" or self.capture.mode == "train":
            return
        with torch.device("meta"):
            net = model.build(data.domain, rng.child("init"))
        if mixes_examples(net):
            raise UserError(
                "fl_setting.capture.mode=eval: local training normalises by the batch, so that no weight difference "
                f"comes of this mode; take train, fl_setting.capture.what=gradient, or {IN_GROUPS}"
            )

    def _check_batches(self, held: int, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the model cannot take a batch on the way to the update, or some images are in none.

        The client has ``held``. Where a defence draws batches, that an image is in none is part of what it does.
        """
        capture, local = self.capture, self.federation.local_schedule()
        if capture.what == "gradient":
            check_batch(model, data, capture.batch_size, capture.mode, rng)
        if "sample" in defense.acts_at():
            return
        if capture.what == "difference":
            check_all_used(local, capture.batch_size)
            key = f"fl_setting.capture.batch_size={capture.batch_size}"
            check_local_batches(key, local, [capture.batch_size], model, data, rng)
        if capture.step:  # which may be taken where nothing is trained
            key = f"fl_setting.batch_size={local.batch_size}"
            check_local_batches(key, replace(local, steps=capture.step), [held], model, data, rng)

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        """Updates of ``victims`` victims from the weights of the captured round, and the images behind them."""
        capture, done = self.capture, finished(self.federation, self.capture.round)
        weights = system.snapshots[done]
        if capture.step:
            weights = self.federation.local_weights(
                done, weights, capture.client, capture.step, data, model, defense, rng
            )
        net = self.federation.network(data, model, defense, rng)
        net.load_state_dict(dict(weights))
        known = client_mode(deepcopy(net), capture.mode)  # before any victim's batch passes through
        loss, schedule = defense.loss(data.domain.loss), self.federation.local_schedule()
        client = ClientContext(data, net, loss, schedule, defense)
        sent, index = self._updates(client, weights, self.federation.shards(data, rng), rng.child("exposure", done))
        recipe = Recipe(
            optimizer=schedule.optimizer.name,
            lr=schedule.optimizer.lr,
            momentum=schedule.optimizer.momentum,
            steps=1 if capture.what == "gradient" else schedule.length(capture.batch_size),
            batch_size=min(schedule.batch_size, capture.batch_size),
        )
        seen = Update(
            weights={k: w.clone() for k, w in weights.items()},
            delta=_stacked([one.delta for one in sent]),
            kind=capture.what,
            contributors=index.shape[1] // capture.batch_size,
            examples=index.shape[1],
            statistics=_stacked([one.statistics for one in sent]),
        )
        flat = index.to(data.train.labels.device)
        truth = _truth(data, index, rng.child("exposure", done, "others"))
        labels = data.train.labels[flat] if self.labels_known else None
        knowledge = Knowledge(model=known, loss=loss, domain=data.domain, recipe=recipe, labels=labels)
        measures: dict[str, Sequence[float] | None] = {
            "update_norm": update_norms(seen.delta), "noise_floor_mse": None,
        }  # fmt: skip
        noised_later = self._listens and "aggregate" in defense.acts_at()
        if capture.what == "gradient" and index.shape[1] == 1 and not noised_later:
            x, y = data.domain.inputs_of(data.train, flat[:, 0]), data.train.labels[flat[:, 0]]
            own = rng.child("exposure", done, "floor")
            measures["noise_floor_mse"] = noise_floors(net, loss, x, y, defense, own)
        return Exposure(seen, knowledge, truth, measures, done=done)

    def _updates(
        self, client: ClientContext, weights: Tensors, shards: Sequence[Tensor], rng: Rng
    ) -> tuple[list[Sent], Tensor]:
        """What is captured of every victim, and the positions ``[V, N]`` of the images behind it."""
        defense, labels = client.defense, client.data.train.labels.cpu()
        clients = self._senders(shards, defense)
        batch = self.capture.batch_size
        images = {c: self.victims.draw(c, shards[c], labels, batch, rng) for c in clients}
        captured, behind = [], []
        for victim in range(self.victims.count):
            own = rng.child("victim", victim)
            updates = [client.update(weights, images[c][victim], self.capture, own.child("client", c)) for c in clients]
            delta, surviving = _captured([sent.delta for sent in updates], self._listens, defense, own)
            left = [updates[n].statistics for n in surviving]
            captured.append(Sent(delta, weighted_mean(left, [1] * len(left))))
            behind.append(torch.cat([images[clients[n]][victim] for n in surviving]))
        return captured, torch.stack(behind)

    def _senders(self, shards: Sequence[Tensor], defense: Defense) -> list[int]:
        """The clients that take part: the victim first, a listening one last.

        Raises UserError where clients or their examples do not suffice.
        """
        together = self._listens or defense.sums_only
        count = self.federation.participants(len(shards)) if together else 1
        clients = choose_participants(len(shards), self.capture.client, self.position, count)
        for client in clients:
            self.victims.check(client, shards, self.capture.batch_size)
        return clients


def _truth(data: Data | Data[TokenSet, TextDomain], index: Tensor, rng: Rng) -> Truth:
    """The examples at positions ``index`` ``[V, N]`` of the training split; of images as many others, from ``rng``."""
    train, flat = data.train, index.to(data.train.labels.device)
    if isinstance(train, TokenSet):
        return Sentences(train.tokens[flat], index, ordered=False)
    control = others(index, len(train), rng)
    unseen = None if control is None else train.pixels(control.to(flat.device))
    return Images(train.pixels(flat), train.labels[flat], index, others=unseen)


def _stacked(victims: Sequence[Tensors]) -> Tensors:
    return {name: torch.stack([one[name] for one in victims]) for name in victims[0]}


def _captured(updates: Sequence[Tensors], listening: bool, defense: Defense, rng: Rng) -> tuple[Tensors, list[int]]:
    """What the adversary gets of one round, and whose updates are behind it; a listening client's own is the last."""
    alike = [1] * len(updates)
    if not listening:
        if defense.sums_only:
            return server_mean(updates, alike, defense, rng)
        return defense.server_view(updates, rng)[0], [0]
    *_, own = updates
    last = len(updates) - 1
    mean, surviving = server_mean(updates, alike, defense, rng, present=last)
    n = len(surviving)
    broadcast = defense.aggregate(mean, n, rng.child("aggregate"))
    others = {name: (n * total - own[name]) / (n - 1) for name, total in broadcast.items()}
    return others, [client for client in surviving if client != last]
