"""What a view asks of the setting that trained the system."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from copy import deepcopy
from itertools import chain
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from privsweep.interface.asked import Retraining
from privsweep.interface.data import Architecture, Data, Domain, Tensors, TextDomain
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Recipe
from privsweep.interface.training import LocalSchedule
from privsweep.model.blocks import IN_GROUPS
from privsweep.training.frozen import client_mode

Round = int | Literal["last"]


class Federation(Protocol):
    """A setting, as far as its views know it."""

    @property
    def checkpoints(self) -> Sequence[int]:
        """Rounds whose weights are kept; 0 and the last always are."""
        ...

    def length(self) -> int:
        """Rounds (epochs, of central training) from the first to the last."""
        ...

    def shards(self, data: Data, rng: Rng) -> Sequence[Tensor]:
        """Positions of every client's examples in the training split."""
        ...

    def fraction_of_clients(self) -> float:
        """Of all clients, that take part in a round."""
        ...

    def participants(self, clients: int) -> int:
        """How many of that many clients take part in a round."""
        ...

    def local_schedule(self) -> LocalSchedule:
        """What a client does between two messages."""
        ...

    def recipe(self, data: Data, rng: Rng, done: int) -> Recipe:
        """How one client trains in the first ``done`` rounds, the mean over all clients."""
        ...

    def again(self, data: Data, model: Architecture, done: int) -> Retraining | None:
        """Its first ``done`` rounds, to be repeated with other records; None where one party holds all of them."""
        ...

    def used(self, data: Data, defense: Defense, rng: Rng, done: int) -> Tensor:
        """Positions in the training split, ascending, of what was trained on in the first ``done`` rounds."""
        ...

    def uses_all(self, defense: Defense, done: int) -> bool:
        """Whether those are all positions, whatever is drawn; False: maybe not."""
        ...

    def architecture(self, model: Architecture) -> Architecture:
        """The model as a defence finds it: cut, where the setting cuts it."""
        ...

    def assembled(self, domain: Domain, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the device in force."""
        ...

    def network(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the data's device."""
        ...

    def local_weights(
        self, done: int, weights: Tensors, client: int, steps: int, data: Data, model: Architecture, defense: Defense,
        rng: Rng,
    ) -> Tensors:  # fmt: skip
        """The weights of ``client`` after its first ``steps`` local steps of the round that follows round ``done``."""
        ...


def finished(federation: Federation, round_: Round) -> int:
    """A number of finished rounds."""
    return federation.length() if round_ == "last" else round_


def check_kept(federation: Federation, key: str, round_: Round) -> None:
    """Raises UserError, naming ``fl_setting.<key>``, unless the weights after that round are kept."""
    kept = sorted({0, federation.length(), *federation.checkpoints})
    done = finished(federation, round_)
    if done not in kept:
        raise UserError(
            f"fl_setting.{key}={done}: weights are kept after rounds {', '.join(map(str, kept))}; add it to "
            "fl_setting.checkpoints, or train for longer"
        )


def batch_fault(net: nn.Module, domain: Domain | TextDomain, batch_size: int) -> str | None:
    """Why the network, in the mode that it is in, cannot take a batch of that size, or None; on the meta device.

    It is tried where a layer may refuse: the first product on that device takes a second, for what PyTorch then loads.
    """
    if not any(_may_refuse(layer) for layer in net.modules()):
        return None
    try:
        return _fault(net, domain, batch_size)
    except RuntimeError as error:
        if "meta" not in str(error).lower():
            raise
    # A layer goes by values, of which there are none on that device: a plain mean of statistics by their count.
    with torch.device("cpu"), torch.no_grad(), suppress(RuntimeError):
        there = deepcopy(net).to_empty(device="cpu")
        for tensor in chain(there.parameters(), there.buffers()):
            tensor.zero_()
        return _fault(there, domain, batch_size)
    return None


def _fault(net: nn.Module, domain: Domain | TextDomain, batch_size: int) -> str | None:
    try:
        net(domain.blank(batch_size))
    except ValueError as error:  # batch normalisation of a single value
        return f"the model cannot be trained on so few images of this size ({error})"
    return None


def _may_refuse(layer: nn.Module) -> bool:
    """Whether it normalises by the batch, or is of somebody else's making."""
    return isinstance(layer, _NormBase) or not type(layer).__module__.startswith(("torch.", "privsweep."))


def check_batch(model: Architecture, data: Data, batch_size: int, mode: Literal["train", "eval"], rng: Rng) -> None:
    """Raises UserError where the model cannot take a captured batch of that size."""
    with torch.device("meta"):
        net = client_mode(model.build(data.domain, rng.child("init")), mode)
        if fault := batch_fault(net, data.domain, batch_size):
            raise UserError(
                f"fl_setting.capture.batch_size={batch_size}: {fault}; take more, fl_setting.capture.mode=eval, "
                f"or {IN_GROUPS}"
            )


def check_local_batches(
    key: str, schedule: LocalSchedule, examples: Iterable[int], model: Architecture, data: Data, rng: Rng
) -> None:
    """Raises UserError, opening with ``key``, where the model cannot be trained on a batch of so many ``examples``.

    The smallest batch is tried: a model that takes it takes larger ones.
    """
    sizes = [(size, images) for images in examples for size in schedule.sizes(images)]
    if not sizes:
        return
    size, images = min(sizes)
    with torch.device("meta"):
        net = client_mode(model.build(data.domain, rng.child("init")), "train")
        if fault := batch_fault(net, data.domain, size):
            remedy = "another batch size" if images > size else "more images"
            raise UserError(
                f"{key}: {images} images make a batch of {size}, and {fault}; take {remedy}, or {IN_GROUPS}"
            )
