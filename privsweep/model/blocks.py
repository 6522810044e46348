"""What the architectures share: activations, normalisation, the dense end, initial values, size checks."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import nn

from privsweep.interface.data import Domain, image_shape
from privsweep.interface.errors import UserError
from privsweep.model.dropout import Dropout

Layers = OrderedDict[str, nn.Module]
Activation = Literal["relu", "tanh", "sigmoid"]
Norm = Literal["batch", "group"]
Init = Literal["default", "uniform"]

_ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
_GROUPS = 32  # of group normalisation, as Wu and He (2018) propose


def activation(name: Activation) -> nn.Module:
    """A fresh layer, never in place: gradients are taken through it twice."""
    return _ACTIVATIONS[name]()


def normalisation(name: Norm, channels: int) -> nn.Module:
    """Batch normalisation, or group normalisation with 32 groups (their greatest divisor of ``channels``)."""
    if name == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(math.gcd(_GROUPS, channels), channels)


def add_dense(
    layers: Layers, features: int, hidden: Sequence[int], classes: int, act: Activation, dropout: float = 0.0
) -> None:
    """Append ``flatten``, ``fc1``, ``fcact1``, ``fcdrop1``, ..., ``output``; ``features`` is the flattened size.

    Without dropout there are no layers ``fcdrop``.
    """
    layers["flatten"] = nn.Flatten()
    for i, width in enumerate(hidden, start=1):
        layers[f"fc{i}"] = nn.Linear(features, width)
        layers[f"fcact{i}"] = activation(act)
        if dropout:
            layers[f"fcdrop{i}"] = Dropout(width, dropout)
        features = width
    layers["output"] = nn.Linear(features, classes)


def initialise(model: nn.Module, init: Init, bound: float) -> None:
    """Redraw every parameter, biases too, from uniform(-bound, bound); ``default`` keeps PyTorch's values.

    Source: the public code of Deep Leakage from Gradients (Zhu et al., 2019), bound 0.5.
    """
    if init == "uniform":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.uniform_(-bound, bound)


def check_halvings(domain: Domain, times: int, rounds_up: bool, key: str) -> None:
    """Raise UserError where a feature map of one pixel would be halved once more, and where the data are no images.

    ``rounds_up``: strided convolutions keep the odd pixel, pooling drops it. ``key`` is the setting to name.
    """
    least = 2 ** (times - 1) + 1 if rounds_up and times else 2**times
    _, height, width = image_shape(domain, "model", "model=translation_transformer")
    if min(height, width) < least:
        raise UserError(
            f"{key}: halves the image {times} times, so {height}x{width} pixels are too few, at least "
            f"{least}x{least} are needed; choose another model or dataset.resize={least}"
        )
