"""A defence that trains in stages: the output layer once more, all else frozen, on noisy features."""

from collections import OrderedDict
from dataclasses import replace
from typing import Annotated

from pydantic import Field
from torch import nn

from privsweep import Defense, component
from privsweep.model.stochastic import Stochastic


class Noise(Stochastic):
    def __init__(self, features: int, scale: float):
        super().__init__(features)
        self.scale = scale

    def forward(self, x):
        return x + self.scale * self.noise


@component
class Staged(Defense):
    scale: Annotated[float, Field(ge=0)]  # standard deviation of the noise in training

    def fit(self, fit, training, fresh, rng):
        first = fit(training)
        *layers, (name, last) = training.net.named_children()
        noisy = nn.Sequential(OrderedDict([*layers, ("noise", Noise(last.in_features, self.scale)), (name, last)]))
        second = replace(training, net=noisy, start=first, trainable=[name], rngs=[rng.child("second stage")])
        return fit(second)
