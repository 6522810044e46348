"""Collaborative inference: a client computes the first and the last layers of a network, a server those between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from privsweep.exposure.queries import Access, QueryView
from privsweep.fl_setting.single_party import SingleParty
from privsweep.interface.component import ExposureOnly, ResourceOnly, UnlessZero, component
from privsweep.interface.data import Architecture, Data, image_shape
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Recipe, System
from privsweep.interface.roles import Bench, View
from privsweep.interface.training import Augmentation, Decay, Optimizer
from privsweep.model.checkpoint import without_weights
from privsweep.model.convnet import ConvNet
from privsweep.model.resnet import ResNet
from privsweep.model.split_network import Point, SplitArchitecture
from privsweep.model.translation_transformer import TranslationTransformer
from privsweep.training.augmentation import changes
from privsweep.training.central import train_centrally
from privsweep.training.log import Log
from privsweep.training.stacked import Parallel


@component
class CollaborativeInference(SingleParty):
    """The network is trained by the client's side alone; the server attacks the features of test images.

    The server holds the body of the network. It sees what the client's head makes of every query, and knows the body's
    weights and the whole architecture (Ensembler, section 2.2; He et al., "Model inversion attacks against
    collaborative inference", 2019). What it knows besides is in ``access``, ``training_data_known``,
    ``selector_known`` and ``queries_kept``.
    """

    first_split: Point
    second_split: Point
    weight_decay: Annotated[float, Field(ge=0)]
    decay: Decay
    augment: Augmentation
    parallel: ResourceOnly[Parallel]
    access: ExposureOnly[Access]
    training_data_known: ExposureOnly[bool]
    selector_known: ExposureOnly[bool]
    queries_kept: ExposureOnly[UnlessZero[Annotated[int, Field(ge=0)]]]

    def version_with(self, model: Architecture) -> int:
        """1 where a layer without weights once counted as the first, so that a client sent its input itself.

        A model of another class may begin with one.
        """
        begins_with_weights = isinstance(without_weights(model), ConvNet | ResNet | TranslationTransformer)
        return int(isinstance(self.first_split, int) and not begins_with_weights)

    def rule(self) -> Optimizer:
        return Optimizer(self.optimizer, self.lr, self.momentum, self.weight_decay, self.decay)

    def recipe(self, data: Data, rng: Rng, done: int) -> Recipe:
        return replace(super().recipe(data, rng, done), augment=self.augment)

    def architecture(self, model: Architecture) -> SplitArchitecture:
        return SplitArchitecture(model, self.first_split, self.second_split)

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError too where the network cannot be cut there, or the data cannot be augmented."""
        super().check(data, model, defense, rng)
        if self.augment != "none":
            image_shape(data.domain, f"fl_setting.augment={self.augment}", "none")
        with torch.device("meta"):
            self.plain(data.domain, model, rng.child("init"))

    def views(self) -> Sequence[View]:
        told = self.access, self.training_data_known, self.selector_known, self.queries_kept
        return QueryView(self, self.architecture, self._victims(), *told), self._black_box()

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        log = Log(data, net, self.epochs, self.checkpoints, bench, self.evaluate_every)
        schedule = replace(self.local_schedule(), epochs=self.epochs)

        def fresh(own: Rng) -> nn.Module:
            return self.plain(data.domain, model, own).to(data.train.labels.device)

        train_centrally(
            [net], fresh, data, defense.loss(data.domain.loss), schedule, [defense], [rng], [log],
            augment=changes(self.augment), parallel=self.parallel,
        )  # fmt: skip
        return log.system()
