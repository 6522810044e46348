"""A trained reconstructor as tensors that are kept, and what it makes of released weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from privsweep.interface.data import Tensors
from privsweep.weight_inversion.standardisation import Standardisation

_WEIGHT = "weight:"
_AT_ONCE = 256  # models


@dataclass(frozen=True)
class Reconstructor:
    """What a training leaves."""

    weights: Tensors  # of the network
    standardise: Standardisation
    errors: Tensor  # [epochs] mean error of own pixels in [0, 1], absolute and squared together

    def tensors(self) -> dict[str, Tensor]:
        named = {_WEIGHT + name: w for name, w in self.weights.items()}
        return {**named, "mean": self.standardise.mean, "scale": self.standardise.scale, "errors": self.errors}

    @classmethod
    def of(cls, kept: Tensors, limit: float) -> Reconstructor:
        weights = {name.removeprefix(_WEIGHT): w for name, w in kept.items() if name.startswith(_WEIGHT)}
        return cls(weights, Standardisation(kept["mean"], kept["scale"], limit), kept["errors"])

    @torch.no_grad()
    def __call__(self, weights: Tensor, make: Callable[[int], nn.Module]) -> tuple[Tensor, Tensor]:
        """Of rows ``[V, P]``: pixels ``[V, C, H, W]``, and ``[V]`` how far a row lies from the shadows.

        ``make`` gives the network for P numbers. The distance is the root of the mean square of all coordinates that
        vary, in deviations: about one for a shadow where nothing is cut off.
        """
        with torch.device("meta"):
            net = make(weights.shape[1])
        varying = self.standardise.scale.count_nonzero().clamp_min(1)
        pixels, distances = [], []
        for part in weights.split(_AT_ONCE):
            x = self.standardise(part)
            pixels.append(functional_call(net, dict(self.weights), (x,)))
            distances.append((x.square().sum(1) / varying).sqrt())
        return torch.cat(pixels), torch.cat(distances)
