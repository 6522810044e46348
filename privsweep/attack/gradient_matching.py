"""Gradient inversion: images and labels whose gradient matches the captured one."""

from __future__ import annotations

import time
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.component import component
from privsweep.errors import UserError
from privsweep.game import Bench, Knowledge, Reconstruction, Setting, Tensors, ThreatModel, Update
from privsweep.gradient_distance import Distance, Squared
from privsweep.gradient_matching import Matcher, matcher
from privsweep.lbfgs import LBFGS, Minimum, Progress
from privsweep.randomness import Rng

_DISTANCES: dict[str, Distance] = {"squared": Squared()}
_TICK_SECONDS = 1.0

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


@component
class GradientMatching:
    """Moves random images until the gradient they cause equals the captured one.

    Works on the scale of model inputs, without bounds on the pixels. Labels are probabilities, the softmax
    of numbers that are optimised together with the images. All victims and restarts run at once. A weight
    difference is taken for the gradient of one step of SGD, which is exact for one local step.

    Source: Zhu et al., "Deep Leakage from Gradients" (NeurIPS 2019), algorithm 1, and its public code.
    """

    distance: Literal["squared"]
    labels: Literal["optimised"]
    iterations: Count
    inner_iterations: Count
    lr: Positive
    history: Count
    tolerance_grad: Annotated[float, Field(ge=0)]
    tolerance_change: Annotated[float, Field(ge=0)]
    restarts: Count
    zero_below: Positive
    memory: Positive  # GiB

    observes: ClassVar[type[Update] | None] = Update
    needs: ClassVar[frozenset[str]] = frozenset({"model", "loss", "domain"})
    threat: ClassVar[ThreatModel] = ThreatModel("train", frozenset({"client", "server"}), "white-box")

    def refuses(self, setting: Setting) -> str | None:
        capture, optimizer = getattr(setting, "capture", None), getattr(setting, "optimizer", "sgd")
        if getattr(capture, "what", "gradient") == "difference" and optimizer != "sgd":
            return _no_gradient(optimizer)
        return None

    def fits(self, model: nn.Sequential) -> str | None:
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> None:
        return None

    def __call__(self, seen: Update, known: Knowledge, prepared: Any, bench: Bench, rng: Rng) -> Reconstruction:
        """Raises UserError for the weight difference of clients that do not use plain SGD."""
        assert known.domain is not None
        target = _gradient(seen, known)
        victims = len(next(iter(target.values())))
        dimension = seen.examples * (_pixels(known) + known.domain.classes)
        size = self._at_once(target, dimension)

        def attack(part: slice) -> Tensors:
            chunk = {name: g[part] for name, g in target.items()}
            return self._attack(chunk, seen, known, bench, rng, range(part.start, part.stop))

        found = dict(bench.chunks("gradient_matching", "victims", victims, size, attack))
        return Reconstruction(
            images=found.pop("images"),
            diverged=found.pop("diverged"),
            labels=found.pop("labels"),
            curve={
                "iteration": torch.arange(1, self.iterations + 1),
                "gradient_distance": found.pop("curve"),
            },
            diagnostics=found,
        )

    def _attack(
        self, target: Tensors, seen: Update, known: Knowledge, bench: Bench, rng: Rng, victims: range
    ) -> dict[str, Tensor]:
        domain, model = known.domain, known.model
        assert domain is not None
        assert model is not None
        device, restarts = bench.device, self.restarts
        shape = (seen.examples, *domain.shape)
        weights = {name: w.to(device) for name, w in seen.weights.items()}
        target = {name: g.to(device) for name, g in target.items()}
        match = matcher(
            model.to(device),
            weights,
            target,
            _DISTANCES[self.distance],
            seen.examples,
            known.loss or cross_entropy,
        )
        if restarts > 1:
            match = match.take(torch.arange(len(victims), device=device).repeat_interleave(restarts))
        start = torch.stack(
            [
                rng.child("victim", v, "restart", r).normal(seen.examples * (_pixels(known) + domain.classes))
                for v in victims
                for r in range(restarts)
            ]
        ).to(device)
        rule = LBFGS(self.lr, self.inner_iterations, self.history, self.tolerance_grad, self.tolerance_change)
        objective = Joint(match, shape, domain.classes)
        end = rule.minimise(objective, start, self.iterations, self._progress(bench))
        return self._best(end, objective, sum(g[0].numel() for g in target.values()))

    def _best(self, end: Minimum, objective: Joint, parameters: int) -> dict[str, Tensor]:
        """Of every victim's restarts the one of least final distance; a diverged one only if all diverged."""
        value = end.value.view(-1, self.restarts)
        diverged = end.diverged.view_as(value)
        worst = torch.where(diverged & ~diverged.all(1, keepdim=True), torch.inf, value)
        restart = worst.nan_to_num(torch.inf, torch.inf).argmin(1)
        rows = torch.arange(len(value), device=value.device) * self.restarts + restart
        images, logits = objective.split(end.x[rows])
        curve, distance = end.curve[rows], end.value[rows]
        return {
            "images": images,
            "labels": logits.argmax(2),
            "diverged": end.diverged[rows],
            "curve": curve,
            "gradient_distance": distance,
            "gradient_mse": distance / parameters,
            "iterations_to_zero": _first_below(curve, self.zero_below),
            "evaluations": end.evaluations.view_as(value).sum(1),
            "restart": restart,
        }

    def _progress(self, bench: Bench) -> Progress:
        spoke = time.monotonic()

        def progress(done: float, value: Tensor) -> None:
            nonlocal spoke
            if time.monotonic() - spoke >= _TICK_SECONDS:
                spoke = time.monotonic()
                bench.tick(int(done), self.iterations, gradient_distance=value.nanmedian().item())

        return progress

    def _at_once(self, target: Tensors, dimension: int) -> int:
        """Victims that fit the memory: the history, and the gradients with their residuals and patches."""
        gradients = sum(g[0].numel() for g in target.values())
        numbers = self.restarts * (2 * self.history * dimension + 2 * self.history**2 + 40 * dimension + 4 * gradients)
        return max(1, int(self.memory * 2**30 / (4 * numbers)))


class Joint:
    """The distance as a function of images and label logits, one flat vector a victim."""

    def __init__(self, match: Matcher, shape: tuple[int, ...], classes: int):
        self.match, self.shape, self.classes = match, shape, classes

    def take(self, rows: Tensor) -> Joint:
        return Joint(self.match.take(rows), self.shape, self.classes)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``[V, D]`` to images ``[V, B, C, H, W]`` and logits ``[V, B, K]``."""
        batch = self.shape[0]
        images, logits = x.split([x.shape[1] - batch * self.classes, batch * self.classes], 1)
        return images.reshape(-1, *self.shape), logits.reshape(-1, batch, self.classes)

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        images, logits = self.split(x)
        probabilities = logits.softmax(2)
        distance, by_image, by_probability = self.match(images, probabilities)
        by_logit = probabilities * (by_probability - (probabilities * by_probability).sum(2, keepdim=True))
        return distance, torch.cat((by_image.flatten(1), by_logit.flatten(1)), 1)


def _gradient(seen: Update, known: Knowledge) -> Tensors:
    """The captured gradients, or what the captured weight differences say of them."""
    if seen.kind == "gradient":
        return seen.delta
    recipe = known.recipe
    if recipe is None:
        raise UserError(
            "attack.distance: a weight difference tells a gradient only with the clients' learning rate, "
            "which this setting does not grant; take fl_setting.capture.what=gradient"
        )
    if recipe.optimizer != "sgd":
        raise UserError(_no_gradient(recipe.optimizer))
    scale = -1 / (recipe.lr * recipe.steps)
    return {name: scale * d for name, d in seen.delta.items()}


def _no_gradient(optimizer: str) -> str:
    return (
        f"fl_setting.capture.what=difference: with fl_setting.optimizer={optimizer} a weight difference is no "
        "multiple of a gradient; take fl_setting.capture.what=gradient or fl_setting.optimizer=sgd"
    )


def _first_below(curve: Tensor, bound: float) -> Tensor:
    """The first outer iteration, from 1, that ends below ``bound``; infinity where none does. ``[V]``."""
    below = curve < bound
    first = below.int().argmax(1) + 1
    return torch.where(below.any(1), first.to(curve.dtype), torch.inf)


def _pixels(known: Knowledge) -> int:
    assert known.domain is not None
    channels, height, width = known.domain.shape
    return channels * height * width
