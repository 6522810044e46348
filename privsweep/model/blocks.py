"""What the architectures share: activations, normalisation, the dense end, initial values, size checks."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from privsweep.interface.data import Domain, image_shape
from privsweep.interface.errors import UserError
from privsweep.model.dropout import Dropout

Layers = OrderedDict[str, nn.Module]
Activation = Literal[
    "relu",
    "shifted_relu",
    "leaky_relu",
    "elu",
    "celu",
    "selu",
    "gelu",
    "swish",
    "softplus",
    "sigmoid",
    "tanh",
    "identity",
]
Norm = Literal["batch", "group"]
IN_GROUPS = "model.norm=group (where it has no such key: a network with nn.GroupNorm)"  # instead of by the batch
Init = Literal["default", "uniform", "normal", "truncated_normal"]

_GROUPS = 32  # of group normalisation, as Wu and He (2018) propose


class ShiftedReLU(nn.Module):
    """``max(-0.5, x)``: a ReLU that lets small negative values through."""

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(min=-0.5)


# As PyTorch defines them without arguments: alpha is 1, so that celu is the same function as elu; leaky_relu falls by
# 0.01; gelu is x times the normal distribution function itself, no approximation; swish is SiLU.
_ACTIVATIONS: dict[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "shifted_relu": ShiftedReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "celu": nn.CELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "swish": nn.SiLU,
    "softplus": nn.Softplus,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}
ACTIVATION_LAYERS = tuple(_ACTIVATIONS.values())  # all elementwise, without parameters


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
    """Redraw the parameters of ``model``, in place; ``default`` keeps PyTorch's values.

    ``uniform``: every parameter, biases too, from uniform(-bound, bound), as the public code of Deep Leakage from
    Gradients (Zhu et al., 2019) does with bound 0.5.
    ``normal``: weights of convolutions and dense layers from a normal distribution of deviation ``bound``; their biases
    are zero, and other layers keep their values.
    ``truncated_normal``: weights of convolutions and dense layers from a normal distribution of deviation
    1 / sqrt(inputs of a neuron), cut off at two deviations, which leaves 0.88 of it; their biases are zero. Other
    layers keep their values. This is how Haiku, the authors' library, starts a network.
    """
    with torch.no_grad():
        if init == "uniform":
            for parameter in model.parameters():
                parameter.uniform_(-bound, bound)
        elif init in ("normal", "truncated_normal"):
            for layer in model.modules():
                if isinstance(layer, nn.Linear | nn.Conv2d):
                    if init == "normal":
                        nn.init.normal_(layer.weight, std=bound)
                    else:
                        deviation = layer.weight[0].numel() ** -0.5
                        nn.init.trunc_normal_(layer.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
                    if layer.bias is not None:
                        layer.bias.zero_()


def check_halvings(domain: Domain, times: int, rounds_up: bool, key: str) -> None:
    """Raise UserError where a feature map of one pixel would be halved once more, and where the data are no images.

    ``rounds_up``: strided convolutions keep the odd pixel, pooling drops it. ``key`` is the setting to name.
    """
    least = 2 ** (times - 1) + 1 if rounds_up and times else 2**times
    check_side(domain, least, f"{key}: halves the image {times} times")


def check_side(domain: Domain, least: int, why: str) -> None:
    """Raise UserError, opening with ``why``, for images of fewer pixels a side, and where the data are no images."""
    _, height, width = image_shape(domain, "model", "model=translation_transformer")
    if min(height, width) < least:
        raise UserError(
            f"{why}, so {height}x{width} pixels are too few, at least {least}x{least} are needed; choose another model "
            f"or dataset.resize={least}"
        )
