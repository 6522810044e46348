"""What perturbs the features that a client sends: noise, the same for every query or drawn anew, and dropout."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor, nn

from privsweep.model.stochastic import Stochastic


class Perturbation:
    """Marks a layer that perturbs: without it, the features are what the network makes of the input."""

    afterwards: ClassVar[bool] = False  # added to a finished network, which was trained without it

    def imitated(self) -> Stochastic | None:
        """What one who knows its law and not what was drawn puts in its place; None where that is the same each time.

        A constant that is added to all features is then for other layers to stand for.
        """
        return None

    @property
    def drops(self) -> bool:
        """Whether it sets features to zero."""
        return False

    def each(self) -> list[nn.Module]:
        """In its place, as many layers as there are draws, one of which has made what was sent; none: there are more.

        For one who knows the layer itself.
        """
        return []


class FixedNoise(Perturbation, nn.Module):
    """Adds one tensor, drawn once, to every example; it is stored with the weights, and no training moves it.

    Ensembler, section 4.2.
    """

    drawn: Tensor

    def __init__(self, drawn: Tensor):
        super().__init__()
        self.register_buffer("drawn", drawn)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.drawn


class DrawnNoise(nn.Module):
    """Multiplies every example by one tensor, where there is one, and adds another."""

    def __init__(self, noise: Tensor, weight: Tensor | None):
        super().__init__()
        self.noise, self.weight = noise, weight

    def forward(self, x: Tensor) -> Tensor:
        return self.noise + (x if self.weight is None else x * self.weight)


class FreshNoise(Perturbation, Stochastic):
    """Adds Gaussian noise of standard deviation ``sigma`` that is drawn anew for every example."""

    def __init__(self, shape: tuple[int, ...], sigma: float):
        super().__init__(*shape)
        self.sigma = sigma

    def forward(self, x: Tensor) -> Tensor:
        return x + self.sigma * self.noise

    def imitated(self) -> Stochastic:
        return self

    def extra_repr(self) -> str:
        return f"sigma={self.sigma}"


class NoiseCollection(Perturbation, Stochastic):
    """Adds one of ``size`` noise tensors to every example, and may multiply by one of as many weights before.

    Which one is read off standard normal noise. Shredder (Mireshghallah et al., 2020).
    """

    afterwards: ClassVar[bool] = True

    def __init__(self, noises: Tensor, weights: Tensor | None):
        super().__init__(1)
        self.noises = nn.Parameter(noises)  # [size, ...]
        self.weights = None if weights is None else nn.Parameter(weights)

    def forward(self, x: Tensor) -> Tensor:
        if self.noise.shape == self.noise_shape:  # nothing is drawn
            return x
        share = (1 + torch.erf(self.noise[:, 0] / math.sqrt(2))) / 2
        chosen = (share * len(self.noises)).long().clamp(max=len(self.noises) - 1)
        if self.weights is not None:
            x = x * self.weights[chosen]
        return x + self.noises[chosen]

    def imitated(self) -> Stochastic:
        """Without the weights. Tensors of its own would be learnt by heart, and are not those of the client."""
        return ShuffledNoise(self.noises.detach())

    def each(self) -> list[nn.Module]:
        noises = self.noises.detach()
        weights = [None] * len(noises) if self.weights is None else list(self.weights.detach())
        return [DrawnNoise(noise, weight) for noise, weight in zip(noises, weights, strict=True)]


class ShuffledNoise(Stochastic):
    """Adds to every feature of every example a number that is drawn anew, with equal chances, from those of ``noises``.

    Which one is read off standard normal noise.
    """

    values: Tensor

    def __init__(self, noises: Tensor):
        super().__init__(*noises.shape[1:])
        self.register_buffer("values", noises.flatten().clone())

    def forward(self, x: Tensor) -> Tensor:
        if self.noise.shape == self.noise_shape:  # nothing is drawn
            return x
        share = (1 + torch.erf(self.noise / math.sqrt(2))) / 2
        return x + self.values[(share * len(self.values)).long().clamp(max=len(self.values) - 1)]


class FeatureDropout(Perturbation, Stochastic):
    """Sets each feature of an example to zero with probability ``p``, in training and in use; the rest stays.

    Without the usual factor: it is the same at both times, and what follows is trained with it.
    """

    def __init__(self, shape: tuple[int, ...], p: float):
        super().__init__(*shape)
        self.p, self.quantile = p, NormalDist().inv_cdf(p) if p else -math.inf

    def forward(self, x: Tensor) -> Tensor:
        if self.noise.shape == self.noise_shape:  # nothing is drawn
            return x
        return torch.where(self.noise > self.quantile, x, 0.0)

    def imitated(self) -> Stochastic:
        return self

    @property
    def drops(self) -> bool:
        return self.p > 0

    def extra_repr(self) -> str:
        return f"p={self.p}"
