"""What the adversary captures of a federation: one client's update, or what is left of an aggregate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.exposure.victims import VictimChoice, draw_victims
from privsweep.interface.component import component
from privsweep.interface.data import Data, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Images, Knowledge, Recipe, Update
from privsweep.training.aggregation import server_mean
from privsweep.training.local import LocalSchedule, gradient, parameters_of, train, weights_of

KNOWS = frozenset({"model", "loss", "domain", "recipe"})


@component
class Capture:
    """Which update the adversary gets hold of."""

    round: Annotated[int, Field(ge=0)] | Literal["last"]  # finished rounds before the capture; 0: untrained
    client: Annotated[int, Field(ge=0)]  # whose update
    step: Annotated[int, Field(ge=0)]  # local steps that the client took before a captured gradient
    what: Literal["gradient", "difference"]  # of one step, or of the weights after the whole local training
    batch_size: Annotated[int, Field(ge=1)]  # images behind one captured update of one client
    mode: Literal["train", "eval"]  # of normalisation layers; without them both are the same


NEUTRAL = Capture(round=0, client=0, step=0, what="gradient", batch_size=1, mode="train")


@dataclass(frozen=True)
class ClientContext:
    """Everything that a client computes an update with."""

    data: Data
    model: nn.Module  # scratch: its weights are overwritten
    loss: Loss
    schedule: LocalSchedule
    defense: Defense

    def share(self, weights: Tensors, batch: Tensor, what: str, mode: str, rng: Rng) -> dict[str, Tensor]:
        """What leaves a client whose only data are the examples ``batch``: counterfactual, nothing is trained."""
        self.model.load_state_dict(dict(weights))
        self.model.train(mode == "train")
        own = self.data.train.take(batch)
        if what == "gradient":
            x = self.data.domain.inputs(own.pixels())
            delta, _ = gradient(self.model, self.loss, x, own.labels, self.defense, rng)
        else:
            train(self.model, own, self.data.domain, self.schedule, self.loss, self.defense, rng)
            after = parameters_of(self.model, weights_of(self.model))
            delta = {name: w - weights[name] for name, w in after.items()}
        return dict(self.defense.update(delta, rng.child("update")))


def expose(
    party: ClientContext,
    weights: Tensors,
    shards: Sequence[Tensor],
    capture: Capture,
    victims: int,
    position: str,
    rng: Rng,
    choice: VictimChoice,
    victim_rng: Rng,
    together: int,
) -> Exposure:
    """One captured update for each of ``victims`` victims, and the images behind it.

    The server sees the victim client's share; where a defence leaves it sums only, the mean share of the
    ``together`` clients of a round, as far as they get through, and all their images are behind it. Another
    client sees the aggregate of all and takes off its own share: with two clients the victim's alone is left,
    with more the mean of the others'.
    Victims are drawn without replacement from the client's examples, so no image is attacked twice; they
    come from ``victim_rng`` (see ``privsweep.exposure.victims``), all other noise from ``rng``.
    Clients weigh alike, for they hold batches of one size. ``check`` has seen that the examples suffice.
    """
    summed = together if party.defense.sums_only else 1
    check(shards, capture, victims, position, summed)
    senders, eavesdropper = choose_participants(shards, capture, position, summed)
    parts = senders if eavesdropper is None else [*senders, eavesdropper]
    labels = party.data.train.labels.cpu()
    images = {
        c: draw_victims(
            shards[c], labels[shards[c]], victims, capture.batch_size, choice, victim_rng.child("victims", c)
        )
        for c in parts
    }
    deltas, behind = [], []
    for victim in range(victims):
        own = rng.child("victim", victim)
        updates = [
            party.share(weights, images[c][victim], capture.what, capture.mode, own.child("client", c)) for c in parts
        ]
        delta, surviving = _captured(updates, eavesdropper is not None, party.defense, own)
        deltas.append(delta)
        behind.append(torch.cat([images[parts[n]][victim] for n in surviving]))
    index = torch.stack(behind)
    schedule = party.schedule
    device = party.data.train.images.device
    victim_model = party.model.train(capture.mode == "train")
    known = Knowledge(
        model=victim_model,  # type: ignore[arg-type]
        loss=party.loss,
        domain=party.data.domain,
        recipe=Recipe(
            optimizer=schedule.optimizer.name,
            lr=schedule.optimizer.lr,
            steps=1 if capture.what == "gradient" else schedule.length(capture.batch_size),
            batch_size=capture.batch_size,
        ),
    )
    seen = Update(
        weights={k: w.clone() for k, w in weights.items()},
        delta={name: torch.stack([d[name] for d in deltas]) for name in deltas[0]},
        kind=capture.what,
        contributors=index.shape[1] // capture.batch_size,
        examples=index.shape[1],
    )
    flat = index.to(device)
    truth = Images(pixels=party.data.train.pixels(flat), labels=party.data.train.labels[flat], index=index)
    return Exposure(seen, known, truth)


def choose_participants(
    shards: Sequence[Tensor], capture: Capture, position: str, summed: int
) -> tuple[list[int], int | None]:
    """The clients whose images are behind an update, the victim first, and the client that listens, if one does."""
    victim = capture.client
    if victim >= len(shards):
        raise UserError(f"fl_setting.capture.client={victim}: clients are numbered 0 to {len(shards) - 1}")
    if position == "server":
        return [victim, *(c for c in range(len(shards)) if c != victim)][:summed], None
    if len(shards) < 2:
        raise UserError("fl_setting.position=client: a lone client sees only itself; take fl_setting.clients=2 or more")
    listener = (victim + 1) % len(shards)
    return [victim, *(c for c in range(len(shards)) if c not in (victim, listener))], listener


def check(shards: Sequence[Tensor], capture: Capture, victims: int, position: str, summed: int = 1) -> None:
    """Raises UserError where clients or examples do not suffice for the capture; the server sees ``summed`` at once."""
    senders, listener = choose_participants(shards, capture, position, summed)
    for client in senders if listener is None else [*senders, listener]:
        if victims * capture.batch_size > len(shards[client]):
            raise UserError(
                f"fl_setting.victims={victims}: with fl_setting.capture.batch_size={capture.batch_size} they need "
                f"{victims * capture.batch_size} images, and client {client} holds {len(shards[client])}; take fewer "
                "victims, or fewer clients"
            )


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
