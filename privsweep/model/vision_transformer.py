"""Vision transformers (Dosovitskiy et al., "An Image Is Worth 16x16 Words", ICLR 2021), as a sequence of layers.

Axes: ``B`` images, ``P`` patches, ``T`` tokens (the patches, and the class token where there is one).
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from privsweep.interface.component import component
from privsweep.interface.data import Domain, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.blocks import Activation, Layers, activation
from privsweep.model.positions import placed
from privsweep.model.residual import Residual

_DEVIATION = 0.02  # of initial weights


class PatchEmbedding(nn.Module):
    """One dense layer for all patches, a class token before them, and positions: ``[B, C, H, W]`` to ``[B, T, width]``.

    Learnt positions are a parameter, ``position`` ``[T, width]``; sinusoidal ones are none.
    """

    def __init__(self, shape: tuple[int, int, int], patch: int, width: int, learnt: bool, token: bool):
        super().__init__()
        self.project = nn.Conv2d(shape[0], width, patch, patch)
        self.token = nn.Parameter(torch.empty(width)) if token else None
        places = shape[1] // patch * (shape[2] // patch) + token
        self.position = nn.Parameter(torch.empty(places, width)) if learnt else None

    def forward(self, images: Tensor) -> Tensor:
        embedded: Tensor = self.project(images).flatten(2).mT
        if self.token is not None:
            embedded = torch.cat((self.token.expand(len(embedded), 1, -1), embedded), 1)
        return placed(embedded) if self.position is None else embedded + self.position


class Attention(nn.Module):
    """Every token attends to all, in several heads (Vaswani et al., 2017, section 3.2): ``[B, T, width]`` to the same.

    Written out, for the fused kernels have no second derivative.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.inward = nn.Linear(width, 3 * width)  # queries, keys and values
        self.outward = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        asked, keys, values = self.inward(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attention = (asked @ keys.mT / math.sqrt(asked.shape[-1])).softmax(-1)
        out: Tensor = self.outward((attention @ values).transpose(1, 2).flatten(2))
        return out


class Pooling(nn.Module):
    """The class token, or the mean of all tokens: ``[B, T, width]`` to ``[B, width]``."""

    def __init__(self, token: bool):
        super().__init__()
        self.token = token

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if self.token else x.mean(1)


@component
class VisionTransformer:
    """Patches, transformer blocks with normalisation before each half, and a dense layer.

    Layers are named ``patches, block1, block2, ..., norm, pool, output``. The output is logits ``[B, classes]``.
    """

    patch: PositiveInt  # pixels of a side
    width: PositiveInt  # of the embeddings
    heads: PositiveInt
    depth: Annotated[int, Field(ge=1, le=1000)]  # blocks
    feedforward: PositiveInt  # width between the two dense layers of a block
    positions: Literal["learnt", "sinusoidal"]
    pooling: Literal["token", "mean"]
    activation: Activation

    def __post_init__(self) -> None:
        """Raises UserError for a width that cannot be shared out among heads, or among pairs of sine and cosine."""
        unit = math.lcm(self.heads, 2) if self.positions == "sinusoidal" else self.heads
        if self.width % unit:
            pairs = " and even, for model.positions=sinusoidal" if unit != self.heads else ""
            raise UserError(
                f"model.width={self.width}: must be a multiple of model.heads={self.heads}{pairs}; take "
                f"model.width={unit * math.ceil(self.width / unit)}"
            )

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        """Freshly initialised from ``rng``, on the CPU; inputs ``[B, C, H, W]``.

        Raises UserError where the patches do not cover the image.
        """
        shape = image_shape(domain, "model", "model=translation_transformer")
        if any(side % self.patch for side in shape[1:]):
            whole = math.gcd(*shape[1:])
            fitting = [side for side in range(1, whole + 1) if whole % side == 0]
            nearest = min(fitting, key=lambda side: abs(side - self.patch))
            raise UserError(
                f"model.patch={self.patch}: does not divide images of {shape[1]}x{shape[2]}; take "
                f"model.patch={nearest}, or resize the images, such as by dataset.resize={8 * self.patch}"
            )
        token = self.pooling == "token"
        with seeded(rng):
            layers: Layers = OrderedDict()
            layers["patches"] = PatchEmbedding(shape, self.patch, self.width, self.positions == "learnt", token)
            for number in range(1, self.depth + 1):
                layers[f"block{number}"] = self._block()
            layers["norm"] = nn.LayerNorm(self.width)
            layers["pool"] = Pooling(token)
            layers["output"] = nn.Linear(self.width, domain.classes)
            model = nn.Sequential(layers)
            _initialise(model)
        return model

    def _block(self) -> nn.Sequential:
        attend: Layers = OrderedDict(norm=nn.LayerNorm(self.width), attention=Attention(self.width, self.heads))
        dense: Layers = OrderedDict(
            norm=nn.LayerNorm(self.width),
            fc1=nn.Linear(self.width, self.feedforward),
            act=activation(self.activation),
            fc2=nn.Linear(self.feedforward, self.width),
        )
        halves = {
            name: Residual(nn.Sequential(half), nn.Sequential())
            for name, half in (("attend", attend), ("dense", dense))
        }
        return nn.Sequential(OrderedDict(halves))


def _initialise(model: nn.Module) -> None:
    """Weights, class token and learnt positions from a normal distribution cut off at two deviations; biases zero.

    The deviation is 0.02, of the patches' layer 1 / sqrt(inputs), as torchvision has it.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            dense = isinstance(module, nn.Linear)
            _draw(module.weight, _DEVIATION if dense else module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, PatchEmbedding):
            for parameter in module.parameters(recurse=False):
                _draw(parameter, _DEVIATION)


def _draw(parameter: Tensor, deviation: float) -> None:
    nn.init.trunc_normal_(parameter, std=deviation, a=-2 * deviation, b=2 * deviation)
