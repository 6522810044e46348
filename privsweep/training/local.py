"""One step of local training, with the defence points in their places.

There is no data loader: a client's images lie on the device as bytes, and a step slices them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privsweep.compiled.narrow import narrow_convolutions
from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.rounding import rounded_step
from privsweep.interface.training import LocalSchedule
from privsweep.model.stochastic import Stochastic, drawn, forward, noise_layers
from privsweep.training.per_example import defended_sum


def batches_of(
    schedule: LocalSchedule, examples: int, defense: Defense, rng: Rng, device: torch.device
) -> Iterator[tuple[Tensor, int]]:
    """Every step's batch, from the schedule or as a defence draws it, and the size by which its sum is divided.

    What is drawn may be of any size, or empty; its divisor is the schedule's batch size (all examples, if fewer).
    """
    if "sample" not in defense.acts_at():
        yield from ((batch, len(batch)) for batch in schedule.batches(examples, rng, device))
        return
    expected, steps = min(schedule.batch_size, examples), range(schedule.length(examples))
    drawn = [defense.sample(examples, schedule.batch_size, rng.child("sample", count)) for count in steps]
    for batch in torch.cat(drawn).to(device).split([len(batch) for batch in drawn]):
        yield batch, expected


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of parameters and buffers."""
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def beside_parameters(model: nn.Module) -> dict[str, Tensor]:
    """Copies of the stored buffers, such as running statistics."""
    parameters = {name for name, _ in model.named_parameters()}
    return {name: t.detach().clone() for name, t in model.state_dict().items() if name not in parameters}


def parameters_of(model: nn.Module, weights: Tensors) -> dict[str, Tensor]:
    """The part of ``weights`` that is trained."""
    return {name: weights[name] for name, _ in model.named_parameters()}


@dataclass(frozen=True)
class Looked:
    """What a step looks up in a network. Many steps look once: that takes a LeNet a fiftieth of each."""

    moving: Mapping[str, Tensor]  # parameters by name, in the network's order
    noisy: Mapping[str, Stochastic]  # layers by the name of their noise


def looked_up(model: nn.Module) -> Looked:
    """Of all that is not frozen."""
    return Looked({name: p for name, p in model.named_parameters() if p.requires_grad}, noise_layers(model))


def _laid_out(grad: Tensor, like: Tensor) -> Tensor:
    """In its parameter's memory layout: fused optimisers misread any other, which convolutions may hand out."""
    return grad if grad.stride() == like.stride() else torch.empty_like(like).copy_(grad)


def gradient(
    model: nn.Module,
    loss: Loss,
    x: Tensor,
    y: Tensor,
    defense: Defense,
    rng: Rng,
    expected: int | None = None,
    unseen: bool = False,
    looked: Looked | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of one step, as the defence lets it pass, and the loss. ``model`` keeps its weights.

    Of parameters that are not frozen. Stochastic layers draw afresh, from ``rng``. ``expected`` divides a sum of
    examples' gradients; None: the batch's length. An empty batch has the loss zero. ``unseen``: nobody sees the
    gradient, so that its products may be rounded (``round_products``). ``looked``: found before.
    """
    looked = looked_up(model) if looked is None else looked
    named = looked.moving
    noise = drawn(looked.noisy, len(x), rng.child("noise"), x.device)
    size = len(x) if expected is None else expected
    if "example_gradients" in defense.acts_at() or not len(x):
        total, value = defended_sum(model, loss, x, y, noise, defense, rng)
        grads = {name: g / size for name, g in total.items()}
    else:
        with rounded_step(x.device) if unseen else nullcontext(), narrow_convolutions(x.device):
            value = loss(forward(model, noise, x), y)
        parts = torch.autograd.grad(value, list(named.values()))
        grads = {name: _laid_out(g, p) for (name, p), g in zip(named.items(), parts, strict=True)}
    if len(x) and "batch_gradient" in defense.acts_at():
        grads = dict(defense.batch_gradient(grads, model, x, rng))
    defended = defense.gradient(grads, size, rng)
    return {name: _laid_out(g, named[name]) for name, g in defended.items()}, value.detach()
