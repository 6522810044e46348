"""Gradient inversion: images and labels whose gradient matches the captured one."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from math import prod
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from privsweep.attack.base import AttackBase
from privsweep.gradient_inversion.batch_statistics import know_nothing, tracking_layers, wanted_moments
from privsweep.gradient_inversion.engine.distance import Cosine, Distance, Squared
from privsweep.gradient_inversion.engine.local_steps import LocalSteps
from privsweep.gradient_inversion.engine.match import Matcher
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations, estimate_memory
from privsweep.gradient_inversion.image_prior import LEAST, ImagePrior
from privsweep.gradient_inversion.initialisation import Init, starting_point
from privsweep.gradient_inversion.label_inference import last_bias, not_sent, read_labels
from privsweep.gradient_inversion.minimise import Count, Minimisation, Positive, Weight, reporting
from privsweep.gradient_inversion.model_noise import NoiseStreams, noise_shapes, of_deterministic_layers
from privsweep.gradient_inversion.objective import MatchingObjective
from privsweep.gradient_inversion.update_to_gradient import (
    captured_gradient,
    local_steps,
    refuses_difference,
    refuses_gradient,
)
from privsweep.interface.component import ResourceOnly, UnlessZero, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Observation, ThreatModel, Update
from privsweep.interface.roles import Bench, View
from privsweep.minimisation.minimum import Minimum
from privsweep.model.stochastic import Reparametrised, noise_layers

_DISTANCES: dict[str, Distance] = {"squared": Squared(), "cosine": Cosine()}


@component
class GradientMatching(Minimisation, AttackBase):
    """Changes random images until their gradient matches the captured one.

    Works on the scale of model inputs. Labels are known, read off the gradient, or probabilities (the softmax of
    logits that are optimised with the images). All victims and restarts run at once. A weight difference is taken for
    the gradient of one step of SGD, which is exact for one local step, or with ``unrolled`` the local steps are taken
    anew from the images (``gradient_inversion.engine.local_steps``).

    The presets are ``dlg`` (Zhu et al., 2019), ``idlg`` (Zhao et al., 2020), ``iga`` (Geiping et al., 2020) and
    ``cpl`` (Wei et al., 2020), the last two as "PRECODE" (Scheliga et al., 2022, section 4) uses them. As there,
    a stochastic model is attacked through the cross-entropy of its logits, with new noise in every evaluation.
    An attack that adapts to a defence matches only what the defence leaves (the layers before the noise, the entries
    that were not pruned), optimises the noise too (as Balunovic et al., 2022), or averages over samples of it.
    ``statistics_weight`` pulls the images towards what the update tells of batch normalisation
    (``gradient_inversion.batch_statistics``), ``prior_weight`` towards images like the adversary's own
    (``gradient_inversion.image_prior``).
    """

    distance: Literal["squared", "cosine"]
    loss: Literal["cross_entropy", "victim"]
    match: Literal["all", "deterministic_layers"]
    only_nonzero: bool
    unrolled: UnlessZero[bool]
    noise: Literal["fresh", "optimised"]
    noise_samples: Count
    tv_weight: Weight
    label_weight: Weight
    statistics_weight: UnlessZero[Weight]
    prior_weight: UnlessZero[Weight]
    labels: Literal["optimised", "known", "analytic"]
    init: Init
    memory: ResourceOnly[Positive]  # GiB

    observes: ClassVar[type[Update] | None] = Update
    reports: ClassVar[frozenset[str]] = Minimisation.reports | {"gradient_mse", "zero_share"}

    def __post_init__(self) -> None:
        """Raises UserError for settings that the others would leave without effect."""
        super().__post_init__()
        if self.noise_samples > 1 and self.noise == "optimised":
            given = f"attack.noise_samples={self.noise_samples}"
            raise UserError(f"{given}: optimised noise is not sampled; take attack.noise=fresh or noise_samples=1")
        if self.unrolled and self.match != "all":
            raise UserError(
                f"attack.unrolled=true: local steps move all layers; take attack.match=all, not {self.match}"
            )

    @property
    def needs(self) -> frozenset[str]:
        asked = {"loss"} if self.loss == "victim" else set()
        asked |= {"labels"} if self.labels == "known" else set()
        return frozenset({"model", "domain", "recipe"} | asked) | self.prepares_from

    @property
    def prepares_from(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"domain", "prior"} if self.prior_weight else ())

    @property
    def threat(self) -> ThreatModel:
        noise = self.noise == "optimised" or self.noise_samples > 1
        adapted = self.match != "all" or self.only_nonzero or noise or self.loss == "victim"
        return ThreatModel(frozenset({"train"}), frozenset({"client", "server"}), "white-box", adaptive=adapted)

    @property
    def version(self) -> int:
        """1: the output layer's rows tell labels, too. 2: of several. 3: clipped. 4: by pictures. 5: by rows' signs."""
        return 5 * (self.labels == "analytic")

    @property
    def _penalised(self) -> bool:
        return max(self.tv_weight, self.label_weight, self.statistics_weight, self.prior_weight) > 0

    def refuses(self, view: View) -> str | None:
        if self.unrolled:
            return refuses_gradient(view)
        reason = refuses_difference(view)
        return reason and f"{reason}, or attack.unrolled=true"

    def without_effect(self, points: frozenset[str]) -> str | None:
        if self.loss == "victim" and "loss" not in points:
            given = "attack.loss=victim: no defence changes the loss"
            return f"{given}; take attack.loss=cross_entropy, or defense=[precode]"
        return None

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        layers = noise_layers(model)
        masks = [name for name, layer in layers.items() if not isinstance(layer, Reparametrised)]
        if masks and self.noise == "optimised":
            return f"attack.noise=optimised: {masks[0]} draws masks, which have no derivative; take attack.noise=fresh"
        if not layers:
            for name, value, neutral in (("noise_samples", self.noise_samples, 1), ("noise", self.noise, "fresh")):
                if value != neutral:
                    given = f"attack.{name}={value}: the model draws no noise"
                    return f"{given}; take attack.{name}={neutral}, or defense=[precode]"
        if self.statistics_weight and not tracking_layers(model):
            given = f"attack.statistics_weight={self.statistics_weight}: no layer of the model keeps batch statistics"
            return f"{given}; take 0, or a model with batch normalisation, such as model=resnet18"
        if self.prior_weight and (prior is None or len(prior) < LEAST):
            given = f"attack.prior_weight={self.prior_weight}: is that of a Gaussian of {LEAST} images at least"
            return f"{given} of the adversary's own; hold some out: dataset.prior_size=2000"
        try:
            if self.match == "deterministic_layers":
                own = {name: p for name, p in model.named_parameters() if p.requires_grad}
                if not of_deterministic_layers(model, own):
                    return "attack.match=deterministic_layers: the update holds none of them; take attack.match=all"
            if self.labels == "analytic" and (missing := not_sent(model, [last_bias(model, domain.classes)])):
                return f"attack.labels=analytic: the update has no {missing[0]} to read labels off; take optimised"
        except UserError as error:
            return str(error)
        return None

    def warnings(self, known: Knowledge) -> list[str]:
        """That there is nothing to pull images towards."""
        if not self.statistics_weight or not know_nothing(known.model):
            return []
        return [
            f"attack.statistics_weight={self.statistics_weight}: in eval mode an update tells training's statistics, "
            "and there has been none; take fl_setting.capture.mode=train, or a later round"
        ]

    def victims_at_once(self, seen: Observation, known: Knowledge, device: torch.device) -> int:
        """As many as fit ``memory``."""
        assert isinstance(seen, Update)
        shape = (seen.examples, *known.domain.shape)
        unknowns = seen.examples * (prod(known.domain.shape) + known.domain.classes)
        options = (self.pairs_kept, self.restarts, self.only_nonzero, device)
        activations = batch_activations(known.model, shape)
        estimate = estimate_memory(seen.delta, activations, unknowns, *options)
        return estimate.victims_within(self.memory / (known.recipe.steps if self.unrolled else 1))

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """The Gaussian of the adversary's own images, if it has a weight."""
        if not self.prior_weight:
            return {}
        return ImagePrior.fitted(known.domain, known.prior.to(bench.device), rng.child("prior")).tensors()

    def __call__(self, seen: Update, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        """Raises UserError for the weight difference of clients that do not use plain SGD."""
        domain, model = known.domain, known.model.to(bench.device)
        local = local_steps(known.recipe, seen.contributors) if self.unrolled else None
        sent = captured_gradient(seen, known) if local is None else local.scaled(seen.delta)
        target = {name: g.to(bench.device) for name, g in sent.items()}
        labels = self._labels(target, seen, known, rng)
        rngs = [rng.child("victim", v, "restart", r) for v, r in product(seen.victims, range(self.restarts))]
        matched = target if self.match == "all" else of_deterministic_layers(model, target)
        match = self._matcher(model, matched, seen, known, local)
        like = next(iter(matched.values()))
        rows = torch.arange(len(like), device=bench.device).repeat_interleave(self.restarts)
        if self.restarts > 1:
            match = match.take(rows)
        given = None if labels is None else one_hot(labels[rows], domain.classes).to(like.dtype)
        shapes = noise_shapes(model, seen.examples)
        optimised = shapes if self.noise == "optimised" else {}
        logits = seen.examples * domain.classes if labels is None else 0
        starts = [starting_point(self.init, domain, seen.examples, logits, optimised, r) for r in rngs]
        start = torch.stack(starts).to(like)
        fresh = NoiseStreams(shapes, rngs, start[:0]) if shapes and not optimised else None
        shape, classes = (seen.examples, *domain.shape), domain.classes
        noise = (fresh, optimised, self.noise_samples)
        prior = ImagePrior.of(prepared, self.prior_weight, like) if self.prior_weight else None
        objective = MatchingObjective(match, shape, classes, given, self.tv_weight, *noise, prior)
        minimiser = self.minimiser(objective, start, domain)
        end = minimiser.minimise(objective, start, self.iterations, reporting(bench, self.iterations))
        if fresh is not None:  # how far the streams went depends on the other victims in the batch
            objective.fresh = NoiseStreams(shapes, [r.child("verdict") for r in rngs], start[:0])
        return self._answer(end, objective, labels, sum(g[0].numel() for g in target.values()))

    def _labels(self, target: Tensors, seen: Update, known: Knowledge, rng: Rng) -> Tensor | None:
        """Int64 ``[V, N]``, or None where they are optimised."""
        if self.labels == "known":
            return known.labels.to(next(iter(target.values())).device)
        if self.labels == "analytic":
            return read_labels(known.model, seen.weights, target, known.domain, seen.examples, rng.child("labels"))
        return None

    def _matcher(
        self, model: nn.Module, target: Tensors, seen: Update, known: Knowledge, local: LocalSteps | None
    ) -> Matcher:
        device = next(iter(target.values())).device
        weights = {name: w.to(device) for name, w in seen.weights.items()}
        loss = cross_entropy if self.loss == "cross_entropy" else known.loss
        distance = _DISTANCES[self.distance]
        activations = batch_activations(known.model, (seen.examples, *known.domain.shape))
        wanted = {}
        if self.statistics_weight:
            sent = {name: s.to(device) for name, s in seen.statistics.items()}
            there, weight = replace(seen, weights=weights, statistics=sent), self.statistics_weight
            wanted = wanted_moments(model, there, known.recipe, activations.normalised, weight, self.unrolled)
        options = (self.label_weight, self.only_nonzero, wanted, local, seen.contributors)
        return matcher(model, weights, target, distance, activations, loss, *options)

    def _answer(
        self, end: Minimum, objective: MatchingObjective, labels: Tensor | None, parameters: int
    ) -> Reconstruction:
        distance = objective(end.x, *objective.draw()).distance if self._penalised else end.value
        rows, report = self.best_restarts(end, distance)
        if self.distance == "squared" and self.match == "all" and not self.only_nonzero:
            report["gradient_mse"] = report["gradient_distance"] / parameters  # a mean, of all that was sent
        unknowns = objective.split(end.x[rows])
        found = unknowns.logits.argmax(2) if labels is None else labels
        shown = "objective" if self._penalised else "gradient_distance"
        curve = {"iteration": torch.tensor(self.curve_iterations), shown: report.pop("curve")}
        return Reconstruction(unknowns.images, report.pop("diverged"), found, report, curve)
