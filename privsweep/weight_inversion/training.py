"""Training a reconstructor on shadow models: from what they became to the record that each was trained on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privsweep.interface.data import Tensors
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.replayed import Replayed
from privsweep.interface.roles import Bench
from privsweep.interface.training import Optimizer
from privsweep.weight_inversion.patch_gan import judged, patch_gan
from privsweep.weight_inversion.perceptual import Distance
from privsweep.weight_inversion.shadow_weights import ShadowWeights
from privsweep.weight_inversion.standardisation import Standardisation

_SPEAKS = 50  # steps between two lines of progress
_SAVES = 20  # times that the state is saved in a training


@dataclass(frozen=True)
class Course:
    """How a reconstructor is trained: mean absolute and mean squared error of pixels in [0, 1], and what is added."""

    rule: Optimizer
    epochs: int
    batch_size: int
    perceptual: Distance
    perceptual_weight: float
    adversarial: float  # weight of being taken for an image by a discriminator; 0: there is none
    discriminator_width: int


class _Learner:
    """A network with its optimiser."""

    def __init__(self, net: nn.Module, rule: Optimizer):
        self.net = net
        self.parameters = dict(net.named_parameters())
        self.optimizer = rule.make(list(self.parameters.values()))

    def step(self, loss: Tensor) -> None:
        leaves = list(self.parameters.values())
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves), strict=True):
            leaf.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state(self) -> Iterator[tuple[str, Tensor]]:
        for name, leaf in self.parameters.items():
            yield f"weight:{name}", leaf.detach()
            for key, value in self.optimizer.state[leaf].items():
                yield f"{key}:{name}", value

    def restore(self, state: Tensors) -> None:
        """In place: a recorded step finds all of it where it was."""
        with torch.no_grad():
            for label, value in state.items():
                key, _, name = label.partition(":")
                kept = self.optimizer.state[self.parameters[name]]
                if key == "weight":
                    self.parameters[name].copy_(value)
                elif key in kept:
                    kept[key].copy_(value)
                else:
                    kept[key] = value.clone()


def train_reconstructor(
    net: nn.Module,
    shadows: ShadowWeights,
    usable: Tensor,
    standardise: Standardisation,
    course: Course,
    rng: Rng,
    bench: Bench,
    key: str,
) -> Tensor:
    """Trains ``net`` in place on the shadows that are ``usable``, bool ``[K]``; every epoch in a new order.

    The state is saved now and then under ``key``, so that a killed run goes on. Returns the mean error of pixels in
    every epoch, absolute and squared together, ``[epochs]``.
    """
    positions = usable.nonzero().flatten()
    steps = -(-len(positions) // course.batch_size)
    learners = {"reconstructor": _Learner(net, course.rule)}
    if course.adversarial:
        with seeded(rng.child("discriminator")):
            critic = patch_gan(shadows.records.images.shape[1], course.discriminator_width)
        learners["discriminator"] = _Learner(critic.to(bench.device), course.rule)
    take_step = Replayed(lambda x, pixels: (_step(learners, course, x, pixels),), bench.device)

    def epoch(n: int, before: int, total: int) -> Tensor:
        order = positions[rng.child("epoch", n).permutation(len(positions))]
        summed = torch.zeros((), device=bench.device)
        for step, rows in enumerate(order.split(course.batch_size), start=1):
            weights, pixels = shadows.take(rows)
            [error] = take_step(standardise(weights), pixels)
            summed += error * len(rows)
            if (before + step) % _SPEAKS == 0:
                bench.tick(before + step, total, loss=error.item())
        return summed / len(positions)

    def go_on(state: Tensors, epochs: Tensors) -> dict[str, Tensor]:
        for name, learner in learners.items():
            mine = f"{name}/"
            learner.restore({n.removeprefix(mine): t for n, t in state.items() if n.startswith(mine)})
        errors = state["errors"].clone()
        numbers = epochs["epochs"].tolist()
        for k, n in enumerate(numbers):
            errors[n] = epoch(n, k * steps, len(numbers) * steps)
        kept = {f"{name}/{label}": t.clone() for name, learner in learners.items() for label, t in learner.state()}
        return {"errors": errors, **kept}

    start = {"errors": torch.zeros(course.epochs, device=bench.device)}
    size = -(-course.epochs // _SAVES)
    final = bench.stream(
        "reconstructor",
        key,
        course.epochs,
        size,
        lambda part: {"epochs": torch.arange(part.start, part.stop)},
        go_on,
        start,
    )
    mine = "reconstructor/weight:"
    with torch.no_grad():
        for name, leaf in learners["reconstructor"].parameters.items():
            leaf.copy_(final[mine + name])
    return final["errors"]


def _step(learners: dict[str, _Learner], course: Course, x: Tensor, pixels: Tensor) -> Tensor:
    """One step of the discriminator, if there is one, and of the reconstructor; the latter's error."""
    images = learners["reconstructor"].net(x)
    critic = learners.get("discriminator")
    if critic is not None:
        told = judged(critic.net(pixels), True) + judged(critic.net(images.detach()), False)
        critic.step(told / 2)
    error = (images - pixels).abs().mean() + (images - pixels).square().mean()
    loss = error + course.perceptual_weight * course.perceptual(images, pixels)
    if critic is not None:
        loss = loss + course.adversarial * judged(critic.net(images), True)
    learners["reconstructor"].step(loss)
    return error.detach()
