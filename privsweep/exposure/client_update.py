"""What leaves one client whose update is captured, and which update that is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

from pydantic import Field
from torch import Tensor, nn

from privsweep.interface.component import component
from privsweep.interface.data import Data, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Training, alike, labelled, replica
from privsweep.training.fit import fit
from privsweep.training.frozen import client_mode, unfrozen
from privsweep.training.local import beside_parameters, gradient


@component
class Capture:
    """Which update the adversary gets hold of."""

    round: Annotated[int, Field(ge=0)] | Literal["last"]  # finished rounds before the capture; 0: untrained
    client: Annotated[int, Field(ge=0)]  # whose update
    step: Annotated[int, Field(ge=0)]  # local steps that the client took before a captured gradient
    what: Literal["gradient", "difference"]  # of one step, or of the weights after the whole local training
    batch_size: Annotated[int, Field(ge=1)]  # images behind one captured update of one client
    mode: Literal["train", "eval"]  # of normalisation layers; without them both are the same. A difference: train


class Sent(NamedTuple):
    """By one client, or what is left of a round."""

    delta: Tensors  # by parameter
    statistics: Tensors  # buffers, such as running statistics, which no defence changes


@dataclass(frozen=True)
class ClientContext:
    """Everything that a client computes an update with."""

    data: Data
    model: nn.Module  # scratch: its weights are overwritten
    loss: Loss
    schedule: LocalSchedule
    defense: Defense

    def update(self, weights: Tensors, batch: Tensor, capture: Capture, rng: Rng) -> Sent:
        """What leaves a client whose only data are the examples ``batch``: counterfactual, nothing is trained."""
        own = labelled(self.data.train, self.data.domain, [batch])
        if capture.what == "gradient":
            self.model.load_state_dict(dict(weights))
            client_mode(self.model, capture.mode)
            x, y = own.read(own.index[0])
            delta, _ = gradient(self.model, self.loss, x, y, self.defense, rng)
            statistics = beside_parameters(self.model)
        else:
            local = Training(self.model, alike(weights, 1), None, self.loss, own, self.schedule, [rng])
            after = replica(fit(local, self.defense).weights, 0)
            delta = {name: after[name] - weights[name] for name in unfrozen(self.model)}
            statistics = {name: after[name] for name in beside_parameters(self.model)}
        return Sent(dict(self.defense.update(delta, rng.child("update"))), statistics)


def check_all_used(schedule: LocalSchedule, images: int) -> None:
    """Raises UserError where local training ends before each of a captured difference's ``images`` was in a batch.

    The difference tells nothing of such an image, which would be scored, and taken for a member, all the same.
    """
    steps = schedule.length(images)
    if (used := steps * schedule.batch_size) < images:
        raise UserError(
            f"fl_setting.local_steps={steps}: of {images} examples behind a difference {images - used} would be in no "
            f"batch of {schedule.batch_size}; take fl_setting.capture.batch_size={used} or less, or "
            f"fl_setting.local_steps={-(-images // schedule.batch_size)} or more"
        )
