"""Informed reconstruction (Balle, Cherubin and Hayes, 2022): from the weights of a model back to one of its records."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import nn

from privsweep.attack.base import AttackBase
from privsweep.interface.asked import Algorithm
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.machine import GIB, enough_gib
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import Knowledge, Release, ThreatModel
from privsweep.interface.roles import Bench
from privsweep.interface.training import Optimizer
from privsweep.membership_inference.auxiliary_data import labelled_otherwise
from privsweep.store.fingerprint import checksum_of
from privsweep.weight_inversion.kernel import KernelRidge, bytes_of, solve_kernel
from privsweep.weight_inversion.patch_gan import SMALLEST
from privsweep.weight_inversion.perceptual import Perceptual, distance, unfit
from privsweep.weight_inversion.reconstruct import Reconstructor
from privsweep.weight_inversion.reconstructors import mlp, transposed
from privsweep.weight_inversion.shadow_weights import flatten, order_of, train_shadows, without_record
from privsweep.weight_inversion.standardisation import Standardisation, fit_standardisation
from privsweep.weight_inversion.training import Course, train_reconstructor

Count = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
_BYTES = 16  # a parameter in training: weight, gradient, two moments


@component
class InformedReconstruction(AttackBase):
    """Trains shadows as the released models were, each with a record of its own, and a network from weights to records.

    The adversary knows the fixed records, the algorithm and, where all models share them, the initial values; its own
    records are of the target's kind. Weights are standardised coordinate by coordinate, and cut off at ``limit``
    deviations (ours; the paper has none).

    ``reconstructor=kernel`` (ours) is no network but kernel ridge regression, solved for in closed form: stronger than
    the paper's where shadows are few, and done in a fraction of the time. It has no use for what says how a network is
    trained, and takes no other loss and no other fixed set.

    With ``source_shadows`` the network first learns to attack another fixed set of the same size, made of the last of
    the own records, then goes on with ``shadows`` of the true one at ``fine_tune_lr_factor`` times the learning rate;
    with no ``shadows``, that is a zero-shot attack. Between the two, weights keep their scale and move by the
    difference of two models, trained on either fixed set alone, for fixed sets differ by far more than one record
    makes. With neither, the network stays as initialised and answers with grey.
    """

    shadows: Annotated[int, Field(ge=0)]
    reconstructor: Literal["mlp", "transposed", "kernel"]
    width: Count
    depth: Count
    channels: Count
    limit: Annotated[float, Field(gt=0)] | None
    optimizer: Literal["rmsprop", "adam"]
    lr: Annotated[float, Field(gt=0)]
    weight_decay: Weight
    batch_size: Count
    epochs: Count
    perceptual: Perceptual
    perceptual_weight: Weight
    adversarial: Weight
    discriminator_width: Count
    source_shadows: Annotated[int, Field(ge=0)]
    fine_tune_lr_factor: Annotated[float, Field(gt=0)]
    memory: ResourceOnly[Annotated[float, Field(gt=0)]]  # GiB

    observes: ClassVar[type] = Release
    reports: ClassVar[frozenset[str]] = frozenset({"weights_distance", "reconstructor_parameters", "training_error"})
    needs: ClassVar[frozenset[str]] = frozenset({"domain", "algorithm", "prior"})
    prepares_from: ClassVar[frozenset[str]] = needs
    threat: ClassVar[ThreatModel] = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "white-box")

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        if not isinstance(domain, Domain):
            return f"attack=informed_reconstruction: gives images, and the data are {domain}; take another dataset"
        if prior is not None and prior.images.shape[1:] != domain.shape:
            theirs, ours = ("x".join(map(str, s)) for s in (prior.images.shape[1:], domain.shape))
            return f"dataset@prior: its images are {theirs}, the target's {ours}; set prior.resize and prior.channels"
        if prior is not None and (reason := labelled_otherwise(prior, domain)):
            return reason
        if reason := self._too_few(0 if prior is None else len(prior), 0):
            return reason
        if self.adversarial and min(domain.shape[1:]) < SMALLEST:
            size = f"{SMALLEST}x{SMALLEST}"
            return f"attack.adversarial={self.adversarial:g}: needs images of {size} or more; take attack.adversarial=0"
        if reason := unfit(self._perceptual, domain):
            return reason
        numbers = sum(p.numel() for p in model.state_dict().values() if p.is_floating_point())
        if self.reconstructor == "kernel":
            return self._unsolvable(numbers, domain)
        with torch.device("meta"):
            network = self._network(numbers, domain)
        taken = sum(p.numel() for p in network.parameters()) * _BYTES
        smaller = "a smaller attack.width or attack.channels, or a smaller model"
        return self._beyond_memory(taken, f"training a reconstructor for {numbers:,} weights", smaller)

    def _unsolvable(self, numbers: int, domain: Domain) -> str | None:
        """Why ``reconstructor=kernel`` cannot do what is asked, or None."""
        if not self.shadows or self.source_shadows or self.adversarial or self._perceptual != "none":
            return (
                "attack.reconstructor=kernel: is solved for, with shadows of the true fixed set and squared errors; "
                "take attack.shadows=1000 attack.source_shadows=0 attack.perceptual=none attack.adversarial=0, or "
                "attack.reconstructor=mlp"
            )
        size, what = bytes_of(self.shadows, numbers, math.prod(domain.shape)), f"a kernel of {self.shadows:,} shadows"
        return self._beyond_memory(size, what, "fewer attack.shadows, or attack.reconstructor=mlp")

    def _beyond_memory(self, size: int, what: str, smaller: str) -> str | None:
        if size <= self.memory * GIB:
            return None
        enough = enough_gib(size)
        return f"attack.memory={self.memory:g}: {what} takes {enough} GiB; take attack.memory={enough}, {smaller}"

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """The reconstructor's weights and ``errors`` ``[epochs]``, and ``mean`` and ``scale`` of weights ``[P]``."""
        fixed = len(known.algorithm.fixed) if self.source_shadows else 0
        if reason := self._too_few(len(known.prior), fixed):
            raise UserError(reason)
        start = self._moved(known, fixed, bench, rng) if fixed else None
        if self.shadows:
            return self._trained(known, self.shadows, start, bench, rng, "target").tensors()
        return (start or self._untrained(known, bench, rng)).tensors()

    def __call__(self, seen: Release, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Reconstruction:
        trained = Reconstructor.of(prepared, self._limit)
        pixels, away = trained(flatten(seen.weights), lambda numbers: self._network(numbers, known.domain))
        images = known.domain.inputs(pixels)[:, None]
        diverged = ~images.isfinite().flatten(1).all(1)
        count = sum(w.numel() for w in trained.weights.values())
        size = torch.full_like(away, count, dtype=torch.float64)  # beyond what float32 counts
        told = {"weights_distance": away, "reconstructor_parameters": size}
        if len(trained.errors):
            told["training_error"] = trained.errors[-1].expand(len(images))
        return Reconstruction(images, diverged, diagnostics=told)

    def _moved(self, known: Knowledge, fixed: int, bench: Bench, rng: Rng) -> Reconstructor:
        """The reconstructor of another fixed set, of ``fixed`` records, for models of the true one."""
        another = order_of(known.prior, rng)[-fixed:].to(known.prior.labels.device)
        # an algorithm is a frozen dataclass
        elsewhere = cast(Algorithm, replace(cast(Any, known.algorithm), fixed=known.prior.take(another)))
        source = self._source(known.having(algorithm=elsewhere), bench, rng)
        by = without_record(known.algorithm, known.prior, rng) - without_record(elsewhere, known.prior, rng)
        return replace(source, standardise=source.standardise.moved(by))

    def _untrained(self, known: Knowledge, bench: Bench, rng: Rng) -> Reconstructor:
        nothing = torch.zeros_like(without_record(known.algorithm, known.prior, rng))
        net = self._initial(len(nothing), known.domain, bench.device, rng)
        return Reconstructor(
            net.state_dict(), Standardisation(nothing, nothing.clone(), self._limit), nothing[:0].clone()
        )

    def _source(self, known: Knowledge, bench: Bench, rng: Rng) -> Reconstructor:
        """The reconstructor of another fixed set, kept for all runs that fine-tune it or leave it as it is."""
        later = {"shadows", "fine_tune_lr_factor", "memory"}
        key = {
            "reconstructor of": checksum_of(known.algorithm),
            "records": checksum_of(known.prior),
            "seed": rng.seed,
            "path": list(rng.path),
            "attack": {name: value for name, value in vars(self).items() if name not in later},
        }

        def make(part: slice) -> Tensors:
            trained = self._trained(known, self.source_shadows, None, bench, rng, "source")
            return {name: t[None] for name, t in trained.tensors().items()}

        kept = bench.rows(key, 1, 1, make)
        return Reconstructor.of({name: t[0].to(bench.device) for name, t in kept.items()}, self._limit)

    def _trained(
        self, known: Knowledge, shadows: int, start: Reconstructor | None, bench: Bench, rng: Rng, key: str
    ) -> Reconstructor:
        """On that many shadows, from ``start`` or from initial values of its own."""
        own = train_shadows(known.algorithm, known.prior, shadows, rng, bench).kept_on(bench.device, self.memory)
        fitted, usable = fit_standardisation(own.weights, bench.device, self._limit)
        if not usable.any():
            raise UserError("fl_setting.lr: the weights of all shadow models are infinite; take a lower one")
        if self.reconstructor == "kernel":
            solved = solve_kernel(own, usable, fitted, rng.child(key))
            return Reconstructor(solved.state_dict(), fitted, fitted.mean[:0].clone())  # nothing was trained
        net = self._initial(own.weights.shape[1], known.domain, bench.device, rng)
        if start is not None:
            net.load_state_dict(start.weights)
        standardise: Standardisation = fitted if start is None else start.standardise
        lr = self.lr if start is None else self.lr * self.fine_tune_lr_factor
        course = Course(
            Optimizer(self.optimizer, lr, 0.0, self.weight_decay),
            self.epochs,
            self.batch_size,
            distance(self._perceptual, own.records, known.domain, rng.child("features")),
            self.perceptual_weight,
            self.adversarial,
            self.discriminator_width,
        )
        errors = train_reconstructor(net, own, usable, standardise, course, rng.child(key), bench, key)
        return Reconstructor({n: w.detach() for n, w in net.state_dict().items()}, standardise, errors)

    @property
    def _limit(self) -> float:
        return math.inf if self.limit is None else self.limit

    def _initial(self, numbers: int, domain: Domain, device: torch.device, rng: Rng) -> nn.Module:
        with seeded(rng.child("reconstructor")):
            return self._network(numbers, domain).to(device)

    def _network(self, numbers: int, domain: Domain) -> nn.Module:
        if self.reconstructor == "mlp":
            return mlp(numbers, domain.shape, self.width, self.depth)
        if self.reconstructor == "kernel":
            return KernelRidge(domain.shape)
        return transposed(numbers, domain.shape, self.channels)

    @property
    def _perceptual(self) -> Perceptual:
        """What is of no weight is not computed either."""
        return self.perceptual if self.perceptual_weight else "none"

    def _too_few(self, records: int, fixed: int) -> str | None:
        """Why that many own records are too few beside a fixed set of them, or None."""
        key = "shadows" if self.shadows >= self.source_shadows else "source_shadows"
        wanted = max(self.shadows, self.source_shadows)
        if wanted + fixed <= records:
            return None
        beside = f" beside another fixed set of {fixed}" if fixed else ""
        fewer = f"attack.{key}={records - fixed} or " if records > fixed else ""
        return (
            f"attack.{key}={wanted}: every shadow takes an own record, and the adversary has {records}{beside}; take "
            f"{fewer}more of them: dataset.prior_size={wanted + fixed}"
        )
