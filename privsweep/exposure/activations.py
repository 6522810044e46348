"""What the adversary gets to see in split learning: outputs of the client's part on the victims' images."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call

from privsweep.interface.component import component
from privsweep.interface.data import Data
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Images
from privsweep.model.stochastic import draw


@component
class ActivationCapture:
    """Which activations the adversary gets hold of."""

    round: Annotated[int, Field(ge=0)] | Literal["last"]  # finished rounds before the capture; 0: untrained
    client: Annotated[int, Field(ge=0)]  # whose
    batch_size: Annotated[int, Field(ge=1)]  # images that one message is about
    mode: Literal["train", "eval"]  # of normalisation and dropout layers; without them both are the same


NEUTRAL = ActivationCapture(round=0, client=0, batch_size=1, mode="train")


def forwarded(part: nn.Module, x: Tensor, rng: Rng) -> Tensor:
    """Outputs of ``part`` for inputs ``[B, C, H, W]``, without a graph; running statistics stay as they are.

    Stochastic layers draw from ``rng``.
    """
    buffers = {name: b.clone() for name, b in part.named_buffers()}
    with torch.no_grad():
        return functional_call(part, {**buffers, **draw(part, len(x), rng, x.device)}, (x,))


def expose(
    part: nn.Sequential, cut: str, data: Data, index: Tensor, defense: Defense, rng: Rng, mean_only: bool
) -> tuple[Activations, Images]:
    """What a client sends of the training images at ``index`` ``[V, N]``, a message for every victim, and the truth.

    A message passes ``defense.activations`` as one batch. ``mean_only``: the adversary learns its mean over the
    batch, and z is ``[V, 1, ...]``.
    """
    at = index.to(data.train.images.device)
    messages = []
    for victim, own in enumerate(at):
        here = rng.child("victim", victim)
        z = forwarded(part, data.domain.inputs(data.train.pixels(own)), here.child("noise"))
        z = defense.activations(z, here.child("activations"))
        messages.append(z.mean(0, keepdim=True) if mean_only else z)
    weights = {name: w.detach().clone() for name, w in part.state_dict().items()}
    seen = Activations(z=torch.stack(messages), cut=cut, weights=weights, examples=index.shape[1])
    return seen, Images(pixels=data.train.pixels(at), labels=data.train.labels[at], index=index)
