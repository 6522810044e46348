"""What gradient matching minimises, as a function of one flat vector a victim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

from privsweep.gradient_inversion.engine.match import Match, Matcher
from privsweep.gradient_inversion.image_prior import ImagePrior
from privsweep.gradient_inversion.model_noise import NoiseStreams
from privsweep.interface.data import Tensors
from privsweep.minimisation.total_variation import add_total_variation


class Evaluation(NamedTuple):
    """The objective of ``V`` victims at a point."""

    value: Tensor  # [V] distance and penalties
    gradient: Tensor  # [V, D]
    distance: Tensor  # [V] between the gradients alone


class Unknowns(NamedTuple):
    """What a point stands for."""

    images: Tensor  # [V, B, C, H, W]
    logits: Tensor  # [V, B, K]; [V, 0] where labels are given
    noise: Tensors  # name -> [V, B, ...]; empty where it is not sought


class MatchingObjective:
    """A point is the images, then the logits of their labels unless ``given``, then the noise that is optimised too.

    ``shape``: ``(B, C, H, W)``. ``given``: label probabilities ``[V, B, K]``. ``tv_weight`` times the total
    variation of the images on the model's scale is added. Every evaluation draws ``fresh`` noise ``noise_samples``
    times and takes the mean: expectation over transformation (Athalye et al., 2018), here over the noise of stochastic
    layers. Noise of the shapes ``optimised`` is part of the point. Without either, stochastic layers are without
    noise. ``prior`` adds how unlikely the images are.
    """

    def __init__(
        self,
        match: Matcher,
        shape: tuple[int, ...],
        classes: int,
        given: Tensor | None = None,
        tv_weight: float = 0.0,
        fresh: NoiseStreams | None = None,
        optimised: Mapping[str, tuple[int, ...]] | None = None,
        noise_samples: int = 1,
        prior: ImagePrior | None = None,
    ):
        self.match, self.shape, self.classes = match, shape, classes
        self.given, self.tv_weight, self.fresh = given, tv_weight, fresh
        self.optimised, self.noise_samples, self.prior = dict(optimised or {}), noise_samples, prior
        logits = 0 if given is not None else shape[0] * classes
        self.sizes = [prod(shape), logits, *map(prod, self.optimised.values())]

    def take(self, rows: Tensor) -> MatchingObjective:
        given = None if self.given is None else self.given[rows]
        fresh = None if self.fresh is None else self.fresh.take(rows)
        return MatchingObjective(
            self.match.take(rows),
            self.shape,
            self.classes,
            given,
            self.tv_weight,
            fresh,
            self.optimised,
            self.noise_samples,
            self.prior,
        )

    def split(self, x: Tensor) -> Unknowns:
        images, logits, *noise = x.split(self.sizes, 1)
        if self.given is None:
            logits = logits.reshape(-1, self.shape[0], self.classes)
        shaped = zip(self.optimised.items(), noise, strict=True)
        return Unknowns(images.reshape(-1, *self.shape), logits, {n: part.reshape(-1, *s) for (n, s), part in shaped})

    def draw(self) -> tuple[Tensor, ...]:
        """The fresh noise of every sample, layer by layer, ``[V, B, ...]`` each."""
        if self.fresh is None:
            return ()
        return tuple(drawn for _ in range(self.noise_samples) for drawn in self.fresh.draw().values())

    def __call__(self, x: Tensor, *drawn: Tensor) -> Evaluation:
        """At ``x`` ``[V, D]``, under what ``draw`` gave."""
        images, logits, noise = self.split(x)
        probabilities = logits.softmax(2) if self.given is None else self.given
        if self.fresh is None:
            matched = self.match(images, probabilities, noise or None)
        else:
            matched = self._expected(images, probabilities, list(self.fresh.shapes), drawn)
        distance, by_image, by_probability, value, by_noise = matched
        value = value + distance
        if self.tv_weight:
            value = value + add_total_variation(images, self.tv_weight, by_image)
        if self.prior is not None:
            value = value + self.prior.add_penalty(images, by_image)
        gradients = [by_image.flatten(1)]
        if self.given is None:
            along = (probabilities * by_probability).sum(2, keepdim=True)
            gradients.append((probabilities * (by_probability - along)).flatten(1))
        gradients += [by_noise[name].flatten(1) for name in self.optimised]
        return Evaluation(value, gradients[0] if len(gradients) == 1 else torch.cat(gradients, 1), distance)

    def _expected(self, images: Tensor, probabilities: Tensor, names: Sequence[str], drawn: Sequence[Tensor]) -> Match:
        """The mean over samples of the noise."""
        samples = [dict(zip(names, drawn[i:], strict=False)) for i in range(0, len(drawn), len(names))]
        each = [self.match(images, probabilities, noise)[:4] for noise in samples]
        distance, by_image, by_probability, penalty = (torch.stack(parts).mean(0) for parts in zip(*each, strict=True))
        return Match(distance, by_image, by_probability, penalty, {})
