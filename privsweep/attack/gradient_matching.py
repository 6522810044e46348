"""Gradient inversion: images and labels whose gradient matches the captured one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import prod
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.adam import FirstOrder, recorded
from privsweep.gradient_inversion.engine.distance import Cosine, Distance, Squared
from privsweep.gradient_inversion.engine.matcher import Matcher, matcher, numbers_held
from privsweep.gradient_inversion.engine.memory import footprint
from privsweep.gradient_inversion.initialisation import Init, bounds, starting_point
from privsweep.gradient_inversion.label_inference import last_bias, read_labels
from privsweep.gradient_inversion.lbfgs import LBFGS, Minimum, Progress
from privsweep.gradient_inversion.model_noise import NoiseStreams, before_noise, noise_shapes
from privsweep.gradient_inversion.objective import Joint
from privsweep.gradient_inversion.update_to_gradient import captured_gradient, refuses_difference
from privsweep.interface.component import component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Reconstruction, ThreatModel, Update
from privsweep.interface.roles import Bench, Setting
from privsweep.model.stochastic import noise_layers

_DISTANCES: dict[str, Distance] = {"squared": Squared(), "cosine": Cosine()}
_TICK_SECONDS = 1.0

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]


@component
class GradientMatching(AttackBase):
    """Moves random images until the gradient they cause equals the captured one.

    Works on the scale of model inputs. Labels are known, read off the gradient, or probabilities (the softmax of
    numbers that are optimised together with the images). All victims and restarts run at once. A weight
    difference is taken for the gradient of one step of SGD, which is exact for one local step.

    The presets are ``dlg`` (Zhu et al., 2019), ``idlg`` (Zhao et al., 2020), ``iga`` (Geiping et al., 2020) and
    ``cpl`` (Wei et al., 2020), the last two as "PRECODE" (Scheliga et al., 2022, section 4) uses them. Like there,
    a stochastic model is attacked through the cross-entropy of its logits, with new noise in every evaluation.
    An attack that adapts to a defence matches only what the defence leaves: the layers before the noise, the
    entries that were not pruned; or seeks the noise too (as Balunovic et al., 2022), or averages over draws of it.
    """

    distance: Literal["squared", "cosine"]
    loss: Literal["cross_entropy", "victim"]
    match: Literal["all", "before_noise"]
    match_kept: bool
    noise: Literal["fresh", "optimised"]
    draws: Count
    tv_weight: Weight
    label_weight: Weight
    labels: Literal["optimised", "known", "analytic"]
    init: Init
    optimizer: Literal["lbfgs", "adam"]
    iterations: Count
    lr: Positive
    decay: bool
    signed: bool
    boxed: bool
    keep: Literal["last", "best"]
    patience: Annotated[int, Field(ge=0)]
    inner_iterations: Count
    history: Count
    tolerance_grad: Weight
    tolerance_change: Weight
    restarts: Count
    zero_below: Positive
    memory: Positive  # GiB

    observes: ClassVar[type[Update] | None] = Update

    def __post_init__(self) -> None:
        """Raises UserError for settings of Adam that L-BFGS would ignore, and for draws of noise that is not drawn."""
        if self.draws > 1 and self.noise == "optimised":
            raise UserError(f"attack.draws={self.draws}: sought noise is not drawn; take attack.noise=fresh or draws=1")
        if self.optimizer == "lbfgs":
            plain = {"decay": False, "signed": False, "boxed": False, "keep": "last", "patience": 0}
            for name, value in plain.items():
                if getattr(self, name) != value:
                    given, off = (str(v).lower() for v in (getattr(self, name), value))
                    raise UserError(f"attack.{name}={given}: is adam's; take attack.optimizer=adam or {name}={off}")

    @property
    def needs(self) -> frozenset[str]:
        asked = {"loss"} if self.loss == "victim" else set()
        return frozenset({"model", "domain"} | asked | ({"labels"} if self.labels == "known" else set()))

    @property
    def threat(self) -> ThreatModel:
        noise = self.noise == "optimised" or self.draws > 1
        adapted = self.match != "all" or self.match_kept or noise or self.loss == "victim"
        return ThreatModel("train", frozenset({"client", "server"}), "white-box", adaptive=adapted)

    @property
    def _penalised(self) -> bool:
        return self.tv_weight > 0 or self.label_weight > 0

    @property
    def _shown(self) -> Sequence[int]:
        """The iterations on the curve."""
        return recorded(self.iterations) if self.optimizer == "adam" else range(1, self.iterations + 1)

    def refuses(self, setting: Setting) -> str | None:
        return refuses_difference(setting)

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if self.draws > 1 and not noise_layers(model):
            return f"attack.draws={self.draws}: the model draws no noise; take attack.draws=1, or defense=[precode]"
        try:
            if self.match == "before_noise":
                before_noise(model, {})
            if self.labels == "analytic":
                last_bias(model)
        except UserError as error:
            return str(error)
        return None

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """Raises UserError for the weight difference of clients that do not use plain SGD."""
        assert known.domain is not None
        target = captured_gradient(seen, known)
        labels = self._labels(target, seen, known, rng)
        victims = len(next(iter(target.values())))
        size = self._at_once(target, seen.examples, known)

        def attack(part: slice) -> Tensors:
            chunk = {name: g[part].to(bench.device) for name, g in target.items()}
            given = None if labels is None else labels[part].to(bench.device)
            return self._attack(chunk, given, seen, known, bench, rng, range(part.start, part.stop))

        found = dict(bench.chunks("gradient_matching", "victims", victims, size, attack))
        return Reconstruction(
            images=found.pop("images"),
            diverged=found.pop("diverged"),
            labels=found.pop("labels"),
            curve={
                "iteration": torch.tensor(self._shown),
                "objective" if self._penalised else "gradient_distance": found.pop("curve"),
            },
            diagnostics=found,
        )

    def _labels(self, target: Tensors, seen: Update, known: Knowledge, rng: Rng) -> Tensor | None:
        """Int64 ``[V, N]``, or None where they are optimised."""
        if self.labels == "known":
            assert known.labels is not None
            return known.labels
        if self.labels == "analytic":
            assert known.model is not None
            assert known.domain is not None
            return read_labels(known.model, seen.weights, target, known.domain, seen.examples, rng.child("labels"))
        return None

    def _attack(
        self,
        target: Tensors,
        labels: Tensor | None,
        seen: Update,
        known: Knowledge,
        bench: Bench,
        rng: Rng,
        victims: range,
    ) -> dict[str, Tensor]:
        domain, model = known.domain, known.model
        assert domain is not None
        assert model is not None
        model = model.to(bench.device)
        matched = target if self.match == "all" else before_noise(model, target)
        shape = (seen.examples, *domain.shape)
        match = self._matcher(model, matched, shape, seen, known)
        rngs = [rng.child("victim", v, "restart", r) for v in victims for r in range(self.restarts)]
        rows = torch.arange(len(victims), device=bench.device).repeat_interleave(self.restarts)
        if self.restarts > 1:
            match = match.take(rows)
        like = next(iter(matched.values()))
        given = None if labels is None else one_hot(labels[rows], domain.classes).to(like.dtype)
        shapes = noise_shapes(model, seen.examples)
        sought = shapes if self.noise == "optimised" else {}
        logits = seen.examples * domain.classes if labels is None else 0
        begin = [starting_point(self.init, domain, seen.examples, logits, sought, r) for r in rngs]
        start = torch.stack(begin).to(like)
        fresh = NoiseStreams(shapes, rngs, start[:0]) if shapes and not sought else None
        objective = Joint(match, shape, domain.classes, given, self.tv_weight, fresh, sought, self.draws)
        end = self._minimise(objective, start, domain, bench)
        if fresh is not None:  # how far the streams went depends on who else was in the batch
            objective.fresh = NoiseStreams(shapes, [r.child("verdict") for r in rngs], start[:0])
        return self._best(end, objective, labels, sum(g[0].numel() for g in matched.values()))

    def _matcher(
        self, model: nn.Module, target: Tensors, shape: tuple[int, ...], seen: Update, known: Knowledge
    ) -> Matcher:
        device = next(iter(target.values())).device
        weights = {name: w.to(device) for name, w in seen.weights.items()}
        loss = cross_entropy if self.loss == "cross_entropy" or known.loss is None else known.loss
        distance = _DISTANCES[self.distance]
        return matcher(model, weights, target, distance, shape, loss, self.label_weight, self.match_kept)

    def _minimise(self, objective: Joint, start: Tensor, domain: Domain, bench: Bench) -> Minimum:
        progress = self._progress(bench)
        if self.optimizer == "lbfgs":
            rule = LBFGS(self.lr, self.inner_iterations, self.history, self.tolerance_grad, self.tolerance_change)
            return rule.minimise(objective, start, self.iterations, progress)
        pixels = objective.sizes[0]
        box = bounds(domain, objective.shape, start) if self.boxed else None
        adam = FirstOrder(self.lr, self.decay, pixels if self.signed else 0, box, self.keep, self.patience)
        return adam.minimise(objective, start, self.iterations, progress)

    def _best(self, end: Minimum, objective: Joint, labels: Tensor | None, parameters: int) -> dict[str, Tensor]:
        """Of every victim's restarts the one of least final distance; a diverged one only if all diverged."""
        distance = objective.evaluate(end.x).distance if self._penalised else end.value
        by_restart = distance.view(-1, self.restarts)
        diverged = end.diverged.view_as(by_restart)
        worst = torch.where(diverged & ~diverged.all(1, keepdim=True), torch.inf, by_restart)
        restart = worst.nan_to_num(torch.inf, torch.inf).argmin(1)
        rows = torch.arange(len(restart), device=restart.device) * self.restarts + restart
        parts = objective.split(end.x[rows])
        curve, distance = end.curve[rows], distance[rows]
        below = curve < self.zero_below
        first = torch.tensor(self._shown, dtype=curve.dtype, device=curve.device)[below.int().argmax(1)]
        return {
            "images": parts.images,
            "labels": parts.logits.argmax(2) if labels is None else labels,
            "diverged": end.diverged[rows],
            "curve": curve,
            "gradient_distance": distance,
            "gradient_mse": distance / parameters,
            "iterations_to_zero": torch.where(below.any(1), first, torch.inf),
            "evaluations": end.evaluations.view_as(by_restart).sum(1),
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

    def _at_once(self, target: Tensors, examples: int, known: Knowledge) -> int:
        """Victims that fit the memory: the history, the gradients with their residuals, activations and patches."""
        assert known.domain is not None
        assert known.model is not None
        shape = (examples, *known.domain.shape)
        dimension = prod(shape) + examples * known.domain.classes
        held = numbers_held(target, self.restarts > 1, self.match_kept) + footprint(known.model, shape).numbers
        history = self.history if self.optimizer == "lbfgs" else 0
        numbers = self.restarts * (2 * history * dimension + 2 * history**2 + 40 * dimension + held)
        return max(1, int(self.memory * 2**30 / (4 * numbers)))
