"""Local training on resident tensors, with the defence points in their places.

There is no data loader: a client's images lie on the device as bytes, and a step slices them.
Clients train in turn (``train_in_turn``) or stacked on a leading axis (``train_stacked``); both give the
same weights to rounding. On two CPU cores in turn is faster, on a GPU stacked (see ``choose``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils.rnn import pad_sequence

from privsweep.interface.data import Domain, ImageSet, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.stochastic import draw, forward, noise_layers
from privsweep.training.optimizer import Optimizer
from privsweep.training.per_example import defended_sum

Parallel = Literal["auto", "stacked", "sequential"]
_NONE = Defense()


@dataclass(frozen=True)
class LocalSchedule:
    """What a client does with its data between two messages."""

    optimizer: Optimizer
    epochs: int
    steps: int | None  # at most so many steps, counted over epochs; None: whole epochs
    batch_size: int

    def length(self, examples: int) -> int:
        """Optimiser steps on that many examples."""
        whole = self.epochs * -(-examples // self.batch_size)
        return whole if self.steps is None else self.steps

    def batches(self, examples: int, rng: Rng) -> Iterator[Tensor]:
        """Positions, batch after batch; every epoch in a new order; the last batch may be smaller."""
        left = self.length(examples)
        epoch = 0
        while left > 0:
            order = rng.child("epoch", epoch).permutation(examples)
            for batch in order.split(self.batch_size)[:left]:
                yield batch
                left -= 1
            epoch += 1


def batches_of(schedule: LocalSchedule, examples: int, defense: Defense, rng: Rng) -> Iterator[tuple[Tensor, int]]:
    """Every step's batch, from the schedule or as a defence draws it, and the size by which its sum is divided.

    What is drawn may be of any size, or empty; its divisor is the schedule's batch size (all examples, if fewer).
    """
    if "sample" not in defense.acts_at():
        yield from ((batch, len(batch)) for batch in schedule.batches(examples, rng))
        return
    expected = min(schedule.batch_size, examples)
    for count in range(schedule.length(examples)):
        yield defense.sample(examples, schedule.batch_size, rng.child("sample", count)), expected


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of parameters and buffers."""
    return {name: t.detach().clone() for name, t in model.state_dict().items()}


def parameters_of(model: nn.Module, weights: Tensors) -> dict[str, Tensor]:
    """The part of ``weights`` that is trained."""
    return {name: weights[name] for name, _ in model.named_parameters()}


def gradient(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, defense: Defense, rng: Rng, expected: int | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of one step, as the defence lets it pass, and the loss. ``model`` keeps its weights.

    Stochastic layers draw afresh, from ``rng``. ``expected`` divides a sum of examples' gradients; None: the batch's
    length. An empty batch has the loss zero.
    """
    named = dict(model.named_parameters())
    noise = draw(model, len(x), rng.child("noise"), x.device)
    size = len(x) if expected is None else expected
    if "example_gradients" in defense.acts_at() or not len(x):
        total, value = defended_sum(model, loss, x, y, noise, defense, rng)
        grads = {name: g / size for name, g in total.items()}
    else:
        value = loss(forward(model, noise, x), y)
        # Convolutions hand out gradients in another memory layout, which fused optimisers would misread.
        parts = [g.contiguous() for g in torch.autograd.grad(value, list(named.values()))]
        grads = dict(zip(named, parts, strict=True))
    return dict(defense.gradient(grads, size, rng)), value.detach()


def train(
    model: nn.Module,
    own: ImageSet,
    domain: Domain,
    schedule: LocalSchedule,
    loss: Loss,
    defense: Defense,
    rng: Rng,
    optimizer: torch.optim.Optimizer | None = None,
) -> Tensor:
    """Trains ``model`` in place on one client's examples; returns the mean loss of its steps.

    An ``optimizer`` from outside keeps its state between calls.
    """
    model.train()
    optimizer = optimizer or schedule.optimizer.make(list(model.parameters()))
    total = torch.zeros((), device=own.labels.device)
    empty = 0
    for count, (batch, expected) in enumerate(batches_of(schedule, len(own), defense, rng)):
        batch = batch.to(own.labels.device)
        x, y = domain.inputs_of(own, batch), own.labels[batch]
        grads, value = gradient(model, loss, x, y, defense, rng.child("step", count), expected)
        for name, parameter in model.named_parameters():
            parameter.grad = grads[name]
        optimizer.step()
        total += value
        empty += not len(batch)
    return total / max(schedule.length(len(own)) - empty, 1)


def train_in_turn(
    model: nn.Module,
    start: Tensors,
    owns: Sequence[ImageSet],
    domain: Domain,
    schedule: LocalSchedule,
    loss: Loss,
    defense: Defense,
    rngs: Sequence[Rng],
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """Every client's weights after local training from ``start``, and the mean loss ``[K]``."""
    results, losses = [], []
    for own, rng in zip(owns, rngs, strict=True):
        model.load_state_dict(dict(start))
        losses.append(train(model, own, domain, schedule, loss, defense, rng))
        results.append(weights_of(model))
    return results, torch.stack(losses)


def train_stacked(
    model: nn.Module,
    start: Tensors,
    owns: Sequence[ImageSet],
    domain: Domain,
    schedule: LocalSchedule,
    loss: Loss,
    defense: Defense,
    rngs: Sequence[Rng],
) -> tuple[list[dict[str, Tensor]], Tensor]:
    """As ``train_in_turn``, all clients on a leading axis. For what ``choose`` lets be stacked.

    Clients of unequal size are padded: a padded example weighs nothing, and a client that is done pauses.
    """
    model.train()
    names = [name for name, _ in model.named_parameters()]
    stacked = {n: start[n].detach().clone().expand(len(owns), *start[n].shape).contiguous() for n in names}
    optimizer = schedule.optimizer.stacked(stacked)
    device = owns[0].labels.device
    defended = "gradient" in defense.acts_at()

    def objective(weights: Tensors, noise: Tensors, x: Tensor, y: Tensor, weigh: Tensor) -> tuple[Tensor, Tensor]:
        outputs = functional_call(model, {**weights, **noise}, (x,))
        each = vmap(lambda o, t: loss(o[None], t[None]))(outputs, y)
        value = (each * weigh).sum() / weigh.sum().clamp_min(1)
        return value, value

    step = vmap(grad(objective, has_aux=True))
    schedules = [list(schedule.batches(len(own), rng)) for own, rng in zip(owns, rngs, strict=True)]
    total = torch.zeros(len(owns), device=device)
    for count in range(max(len(s) for s in schedules)):
        batches = [s[count] if count < len(s) else s[0][:0] for s in schedules]
        widest = max(len(b) for b in batches)
        padded = torch.stack([torch.nn.functional.pad(b, (0, widest - len(b))) for b in batches]).to(device)
        weigh = torch.tensor([[1.0] * len(b) + [0.0] * (widest - len(b)) for b in batches], device=device)
        x = torch.stack([domain.inputs_of(own, p) for own, p in zip(owns, padded, strict=True)])
        y = torch.stack([own.labels[p] for own, p in zip(owns, padded, strict=True)])
        noise = _stacked_noise(model, batches, [rng.child("step", count) for rng in rngs], device)
        grads, value = step(stacked, noise, x, y, weigh)
        if defended:
            apart = [
                defense.gradient({n: g[k] for n, g in grads.items()}, len(batches[k]), rng.child("step", count))
                for k, rng in enumerate(rngs)
            ]
            grads = {n: torch.stack([a[n] for a in apart]) for n in names}
        optimizer.step(stacked, grads, weigh.sum(1) > 0)
        total += value
    lengths = torch.tensor([max(len(s), 1) for s in schedules], device=device)
    return [{n: w[k].clone() for n, w in stacked.items()} for k in range(len(owns))], total / lengths


def _stacked_noise(
    model: nn.Module, batches: Sequence[Tensor], rngs: Sequence[Rng], device: torch.device
) -> dict[str, Tensor]:
    """Noise ``[K, widest batch, ...]``: every client's as it draws it in turn, and zeros for padding."""
    drawn = [draw(model, len(b), rng.child("noise"), device) for b, rng in zip(batches, rngs, strict=True)]
    return {name: pad_sequence([d[name] for d in drawn], batch_first=True) for name in drawn[0]}


def choose(parallel: Parallel, model: nn.Module, device: torch.device, defense: Defense = _NONE) -> bool:
    """Whether to stack: on a GPU, or where asked for.

    Never with running statistics, whose updates are in place, nor with one gradient an example, which is a stack by
    itself.
    """
    if defense.acts_at() & {"sample", "example_gradients"}:
        return False
    noise = noise_layers(model)
    if any(name not in noise for name, _ in model.named_buffers()):
        return False
    return parallel == "stacked" or (parallel == "auto" and device.type == "cuda")
