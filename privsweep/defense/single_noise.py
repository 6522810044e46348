"""Single: one network, trained with noise on the features that leave the client."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.perturbation import FixedNoise, FreshNoise
from privsweep.model.split_network import appended, split_by_setting


@component
class SingleNoise(Defense):
    """Gaussian noise after the head, in training and in use; with ``sigma=0`` it is no defence.

    Ensembler, section 5.2: the baseline Single, with "a fixed Gaussian noise g ~ N(0, 0.1)", section 5.1. ``fixed``
    noise is drawn once for all queries; ``fresh`` noise anew for each.
    """

    sigma: Annotated[float, Field(ge=0)]
    draw: Literal["fixed", "fresh"]

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        net = split_by_setting(model, "single_noise")
        layer: nn.Module = FreshNoise(net.sent, self.sigma)
        if self.draw == "fixed":
            with seeded(rng):
                layer = FixedNoise(self.sigma * torch.randn(net.sent))
        return net.with_parts(head=appended(net.head, "noise", layer))
