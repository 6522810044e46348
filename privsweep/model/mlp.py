"""Multilayer perceptrons."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Domain, image_shape
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.blocks import Activation, Init, Layers, add_dense, initialise


@component
class MLP:
    """Hidden dense layers of one width, on the flattened image.

    Layers are named ``flatten, fc1, fcact1, fcdrop1, ..., output``; without dropout there are no ``fcdrop``. The output
    is logits ``[B, classes]``.
    """

    width: PositiveInt  # neurons of every hidden layer
    depth: Annotated[int, Field(ge=0, le=1000)]  # hidden layers; 0 is a linear classifier
    activation: Activation
    dropout: Annotated[float, Field(ge=0, lt=1)]  # share of every hidden layer's outputs that a training step drops
    init: Init
    init_bound: PositiveFloat  # of init=uniform, the deviation of init=normal

    norm: ClassVar[Literal["none"]] = "none"

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        """Freshly initialised from ``rng``, on the CPU; inputs ``[B, C, H, W]``. Fits images of every size."""
        layers: Layers = OrderedDict()
        with seeded(rng):
            hidden = [self.width] * self.depth
            features = math.prod(image_shape(domain, "model", "model=translation_transformer"))
            add_dense(layers, features, hidden, domain.classes, self.activation, self.dropout)
            model = nn.Sequential(layers)
            initialise(model, self.init, self.init_bound)
        return model
