"""Updates that were captured elsewhere, as the adversary gets them."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import nn

from privsweep.exposure.captured_updates import CapturedUpdates, Expected, read_updates
from privsweep.exposure.federation import batch_fault
from privsweep.exposure.update_file import UpdateFiles, recipe
from privsweep.interface.data import Architecture, Data, Domain
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, System, Update
from privsweep.interface.truth import Images


class Assembler(Protocol):
    """A setting, as far as this view knows it."""

    def assembled(self, domain: Domain, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the device in force."""
        ...

    def network(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The same on the data's device."""
        ...


@dataclass(frozen=True)
class CapturedView:
    """The updates of the files, one for each victim. The truth is known where the files have the originals."""

    setting: Assembler
    files: UpdateFiles
    count: int | None  # the first so many victims; None: all
    mode: Literal["train", "eval"]
    position: Literal["client", "server"]
    labels_known: bool

    observation: ClassVar[type[Update]] = Update
    time: ClassVar[Literal["train", "test"]] = "train"
    calls: ClassVar[frozenset[str]] = frozenset({"model", "loss"})

    @property
    def grants(self) -> frozenset[str]:
        return frozenset({"model", "loss", "domain", "recipe"} | ({"labels"} if self.labels_known else set()))

    def difference_under(self) -> str | None:
        """The optimiser behind weight differences; None for gradients, and where no file can be read."""
        try:
            first = self.files.each()[0]
            return recipe(first.notes()).optimizer if first.kind() == "difference" else None
        except UserError:  # said when the files are needed
            return None

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the files lack what is asked for, or the network cannot take the batch."""
        found = self._read(data, model, defense, rng)
        if self.labels_known and found.labels is None:
            raise UserError(
                f"fl_setting.labels_known=true: {self.files.path} has no labels; take false, and attack.labels=analytic"
            )
        if self.count is not None and self.count > (victims := len(next(iter(found.delta.values())))):
            raise UserError(f"fl_setting.victims={self.count}: {self.files.path} has {victims}; take fewer, or null")
        with torch.device("meta"):
            net = self.setting.assembled(data.domain, model, defense, rng).train(self.mode == "train")
            if fault := batch_fault(net, data.domain, found.notes["batch_size"]):
                raise UserError(f"{self.files.key}={self.files.path}: {fault}; take fl_setting.mode=eval")
        if self.mode == "eval" and (missing := missing_statistics(net, found)):
            raise UserError(
                f"fl_setting.mode=eval: {self.files.path} has no weights.{missing}, which this mode computes with; "
                "take train, or add it"
            )

    def behind(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> int:
        """Examples behind one update, as its file says."""
        return int(self._read(data, model, defense, rng).notes["batch_size"])

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        device, weights = data.train.labels.device, system.snapshots[system.last]
        found, chosen = self._read(data, model, defense, rng), slice(0, self.count)
        net = self.setting.network(data, model, defense, rng)
        net.load_state_dict(dict(weights))
        known = deepcopy(net).train(self.mode == "train")
        seen = Update(
            weights={name: w.clone() for name, w in weights.items()},
            delta={name: d[chosen].to(device) for name, d in found.delta.items()},
            kind=found.what,
            contributors=1,
            examples=found.notes["batch_size"],
            statistics={name: s[chosen].to(device) for name, s in found.statistics.items()},
        )
        labels = None if found.labels is None else found.labels[chosen].to(device)
        truth = None
        if found.originals is not None:
            pixels = found.originals[chosen].to(device)
            index = torch.arange(pixels[:, :, 0, 0, 0].numel()).view(pixels.shape[:2])
            truth = Images(pixels=pixels, labels=labels, index=index)
        granted = labels.clone() if self.labels_known and labels is not None else None
        loss = defense.loss(data.domain.loss)
        knows = Knowledge(model=known, loss=loss, domain=data.domain, recipe=recipe(found.notes), labels=granted)
        return Exposure(seen, knows, truth)

    def _read(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> CapturedUpdates:
        with torch.device("meta"):
            net = self.setting.assembled(data.domain, model, defense, rng)
        return read_updates(self.files.each(), Expected.of(net), data.domain)


def missing_statistics(net: nn.Module, found: CapturedUpdates) -> str | None:
    """A buffer of floating-point numbers, such as a running mean, that the files leave out; or None."""
    buffers = [name for name, b in net.state_dict().items() if b.is_floating_point()]
    return next((name for name in buffers if name not in found.weights), None)
