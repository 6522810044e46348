"""Plain convolutional networks: LeNet, AlexNet, VGG and whatever lies between."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Domain, image_shape
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.blocks import (
    Activation,
    Init,
    Layers,
    Norm,
    activation,
    add_dense,
    check_halvings,
    check_side,
    initialise,
    normalisation,
)


@component
class ConvNet:
    """Convolutions, each followed by norm, activation and pooling; then dense layers.

    Layers are named ``conv1, norm1, act1, pool1, conv2, ..., flatten, fc1, fcact1, ..., output``; what a
    choice leaves out is absent. The output is logits ``[B, classes]``.

    Raises UserError at construction where the fields contradict each other.
    """

    width: PositiveInt  # filters of a layer of multiplier 1
    layers: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]  # multipliers of width, one a convolution
    depth: Annotated[int, Field(ge=1, le=1000)]  # convolutions: fewer than layers cuts the list, more repeats its end
    kernel: PositiveInt  # odd where the padding is "same"
    padding: Literal["same", "valid"]  # same: zeros around keep the image's size; valid: none, kernel - 1 pixels go
    pool_after: tuple[PositiveInt, ...]  # convolutions, from 1, after which the image is halved
    pooling: Literal["max", "average", "stride"]  # stride: that convolution takes every second pixel
    norm: Norm | Literal["none"]
    fc: tuple[PositiveInt, ...]  # widths of the hidden dense layers
    fc_width: PositiveInt | None  # replaces every one of them
    activation: Activation
    init: Init
    init_bound: PositiveFloat  # of init=uniform, the deviation of init=normal

    def __post_init__(self) -> None:
        if self.padding == "same" and self.kernel % 2 == 0:
            raise UserError(
                f"model.kernel={self.kernel}: an even kernel cannot keep the image's size; "
                f"choose {self.kernel - 1} or {self.kernel + 1}, or model.padding=valid"
            )
        if len(set(self.pool_after)) < len(self.pool_after) or max(self.pool_after, default=0) > self.depth:
            raise UserError(
                f"model.pool_after={list(self.pool_after)}: names a convolution twice or one beyond "
                f"model.depth={self.depth}; choose distinct numbers from 1 to {self.depth}"
            )
        if self.fc_width is not None and not self.fc:
            raise UserError(
                f"model.fc_width={self.fc_width}: there is no hidden dense layer (model.fc=[]); "
                f"add one with model.fc=[{self.fc_width}]"
            )

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        """Freshly initialised from ``rng``, on the CPU; inputs ``[B, C, H, W]``.

        Raises UserError where the image has too few pixels for the halvings or the convolutions.
        """
        self._check(domain)
        layers: Layers = OrderedDict()
        channels, height, width = image_shape(domain, "model", "model=translation_transformer")
        with seeded(rng):
            for i, filters in enumerate(self._filters(), start=1):
                halve = i in self.pool_after
                self._add(layers, i, channels, filters, halve)
                channels = filters
                height, width = self._after(height, halve), self._after(width, halve)
            add_dense(layers, channels * height * width, self._hidden(), domain.classes, self.activation)
            model = nn.Sequential(layers)
            initialise(model, self.init, self.init_bound)
        return model

    def _add(self, layers: Layers, i: int, channels: int, filters: int, halve: bool) -> None:
        stride = 2 if halve and self.pooling == "stride" else 1
        layers[f"conv{i}"] = nn.Conv2d(channels, filters, self.kernel, stride, self._frame())
        if self.norm != "none":
            layers[f"norm{i}"] = normalisation(self.norm, filters)
        layers[f"act{i}"] = activation(self.activation)
        if halve and self.pooling == "max":
            layers[f"pool{i}"] = nn.MaxPool2d(2)
        elif halve and self.pooling == "average":
            layers[f"pool{i}"] = nn.AvgPool2d(2)

    def _frame(self) -> int:
        """Zeros on every side of an image."""
        return self.kernel // 2 if self.padding == "same" else 0

    def _after(self, side: int, halve: bool) -> int:
        """Pixels a side after a convolution and its pooling."""
        left = side + 2 * self._frame() - self.kernel + 1
        strided = self.pooling == "stride"
        return (left + strided) // 2 if halve else left

    def _check(self, domain: Domain) -> None:
        strided = self.pooling == "stride"
        if self.padding == "same":
            key = f"model.pool_after={list(self.pool_after)}"
            check_halvings(domain, len(self.pool_after), rounds_up=strided, key=key)
            return
        least = 1
        for i in range(self.depth, 0, -1):
            if i in self.pool_after:
                least = 2 * least - strided
            least += self.kernel - 1
        check_side(domain, least, f"model.padding=valid: a convolution takes {self.kernel - 1} pixels of every side")

    def _filters(self) -> list[int]:
        last = len(self.layers) - 1
        return [self.width * self.layers[min(i, last)] for i in range(self.depth)]

    def _hidden(self) -> list[int]:
        return [self.fc_width or width for width in self.fc]
