"""What the adversary sees in split learning: outputs of the client's part on the victims' images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from privsweep.exposure.federation import Federation, check_batch, check_kept, finished
from privsweep.exposure.victims import Victims
from privsweep.interface.component import component
from privsweep.interface.data import Architecture, Data, image_shape
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Exposure, Knowledge, System
from privsweep.interface.truth import Images
from privsweep.model.split_at import cut
from privsweep.model.stochastic import draw
from privsweep.training.frozen import client_mode
from privsweep.training.stacked import mixes_examples


@component
class ActivationCapture:
    """Which activations the adversary gets hold of."""

    round: Annotated[int, Field(ge=0)] | Literal["last"]  # finished rounds before the capture; 0: untrained
    client: Annotated[int, Field(ge=0)]  # whose
    batch_size: Annotated[int, Field(ge=1)]  # images that one message is about
    mode: Literal["train", "eval"]  # of normalisation and dropout layers; without them both are the same


def forwarded(part: nn.Module, x: Tensor, rng: Rng) -> Tensor:
    """Outputs of ``part`` for inputs ``[B, C, H, W]``, without a graph; running statistics stay as they are.

    Stochastic layers draw from ``rng``.
    """
    buffers = {name: b.clone() for name, b in part.named_buffers()}
    with torch.no_grad():
        return functional_call(part, {**buffers, **draw(part, len(x), rng, x.device)}, (x,))


@dataclass(frozen=True)
class ActivationView:
    """A message of one client for each victim, as the server gets it. Zen, section 4.1: train time, server.

    Every client has the same part, the mean of all; a message is counterfactual, nothing is trained by it. It passes
    ``defense.activations`` as one batch.
    """

    federation: Federation
    cut: str
    capture: ActivationCapture
    victims: Victims
    reveals: Literal["each", "mean"]  # with the mean over a message, z is [V, 1, ...]
    labels_known: bool

    observation: ClassVar[type[Activations]] = Activations
    time: ClassVar[Literal["train", "test"]] = "train"
    position: ClassVar[Literal["client", "server", "off-path"]] = "server"
    calls: ClassVar[frozenset[str]] = frozenset({"model", "loss", "activations"})

    @property
    def grants(self) -> frozenset[str]:
        return frozenset(
            {"model", "loss", "domain", "recipe", "message_size"} | ({"labels"} if self.labels_known else set())
        )

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the round is not kept, or the client does not exist or holds too few images."""
        image_shape(data.domain, "attack", "attack=none")
        check_kept(self.federation, "capture.round", self.capture.round)
        self.victims.check(self.capture.client, self.federation.shards(data, rng), self.capture.batch_size)
        check_batch(model, data, self.capture.batch_size, self.capture.mode, rng)

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        done, client = finished(self.federation, self.capture.round), self.capture.client
        net = self.federation.network(data, model, defense, rng)
        net.load_state_dict(dict(system.snapshots[done]))
        part, _ = cut(net, self.cut)
        client_mode(part, self.capture.mode)
        own, shard = rng.child("exposure", done), self.federation.shards(data, rng)[client]
        index = self.victims.draw(client, shard, data.train.labels.cpu(), self.capture.batch_size, own)
        at = index.to(data.train.labels.device)
        seen = Activations(
            z=torch.stack([self._message(part, data, at[v], defense, own.child("victim", v)) for v in range(len(at))]),
            cut=self.cut,
            weights={name: w.detach().clone() for name, w in part.state_dict().items()},
            examples=index.shape[1],
        )
        truth = Images(pixels=data.train.pixels(at), labels=data.train.labels[at], index=index)
        known = Knowledge(
            model=part,
            loss=defense.loss(data.domain.loss),
            domain=data.domain,
            recipe=self.federation.recipe(data, rng, self.federation.length()),
            message_size=index.shape[1] if part.training and mixes_examples(part) else 0,
            labels=data.train.labels[at] if self.labels_known else None,
        )
        return Exposure(seen, known, truth, done=done)

    def _message(self, part: nn.Module, data: Data, index: Tensor, defense: Defense, rng: Rng) -> Tensor:
        z = forwarded(part, data.domain.inputs_of(data.train, index), rng.child("noise"))
        z = defense.activations(z, rng.child("activations"))
        return z.mean(0, keepdim=True) if self.reveals == "mean" else z
