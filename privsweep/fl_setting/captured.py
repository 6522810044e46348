"""A federation that ran elsewhere: its updates come out of files, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import nn

from privsweep.exposure.captured import CapturedView
from privsweep.exposure.captured_updates import Expected, read_updates
from privsweep.exposure.update_file import UpdateFiles
from privsweep.fl_setting.base import Assembling
from privsweep.interface.component import ExposureOnly, component
from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Architecture, Data, Domain, image_shape
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule, System
from privsweep.interface.roles import Bench, View
from privsweep.metric.accuracy import accuracy
from privsweep.training.local import weights_of


@component
class Captured(Assembling):
    """The weights and the updates of ``privsweep.exposure.update_file``; the model must be that of the federation.

    Of the dataset, the shape, the number of classes and the scale of inputs count; where it has test images, the
    accuracy of the captured weights is measured on them. A defence must have been in force there: its layers belong to
    the model, and what it does to an update is in the update already. Parameters that were not sent are frozen.
    """

    path: Path
    victims: ExposureOnly[Annotated[int, Field(ge=1)] | None]
    mode: ExposureOnly[Literal["train", "eval"]]
    position: ExposureOnly[Literal["client", "server"]]
    labels_known: ExposureOnly[bool]

    training_calls: ClassVar[frozenset[str]] = frozenset({"model"})

    @property
    def _updates(self) -> UpdateFiles:
        return UpdateFiles(self.path, "fl_setting.path")

    def files(self) -> DataFiles:
        """The file, or those of the folder."""
        return self._updates.files()

    def fingerprint(self) -> str:
        """Of the files' contents. Raises AbsentError where there is none."""
        return self._updates.fingerprint()

    def views(self) -> Sequence[View]:
        return (CapturedView(self, self._updates, self.victims, self.mode, self.position, self.labels_known),)

    def refuses(self, defense: Defense) -> str | None:
        if beyond := defense.acts_at() - {"model", "loss"}:
            return (
                f"one that acts at {', '.join(sorted(beyond))} has done so before the capture; leave it out, "
                "and keep those alone whose layers are in the captured model, such as precode"
            )
        return None

    def assembled(self, domain: Domain, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        net = super().assembled(domain, model, defense, rng)
        file = self._updates.each()[0]
        sent, own = file.sent(), dict(net.named_parameters())
        if sent.isdisjoint(own):  # no layer frozen, but another network
            raise UserError(
                f"{file.what}: holds {_few(sorted(sent))}, the model {_few(list(own))}; take the network that it was "
                "captured from, its layers under the same names"
            )
        for name, parameter in own.items():
            parameter.requires_grad_(name in sent)
        return net

    def schedule(self, data: Data, rng: Rng) -> Schedule:
        """Of one update, as far as the file tells."""
        notes = self._updates.each()[0].notes()
        size, steps = notes["batch_size"], notes.get("local_steps", 1)
        return Schedule(size, size, steps, rounds=1, clients=1, participation=1.0)

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the files do not fit the network, the data's domain or one another."""
        image_shape(data.domain, "fl_setting=captured", "another fl_setting")
        with torch.device("meta"):
            net = self.assembled(data.domain, model, defense, rng)
        read_updates(self._updates.each(), Expected.of(net), data.domain)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        found = read_updates(self._updates.each(), Expected.of(net), data.domain)
        device = data.train.labels.device
        weights = weights_of(net) | {name: w.to(device) for name, w in found.weights.items()}
        reached = {"test_accuracy": accuracy(net, weights, data.test, data.domain)} if len(data.test) else {}
        return System(snapshots={0: weights}, utility=reached)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
