"""Residual networks of basic blocks (He et al., 2016)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from torch import nn

from privsweep.interface.component import component
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.blocks import Activation, Layers, Norm, activation, check_halvings, normalisation
from privsweep.model.residual import Residual

Stem = Literal["small", "pooled", "imagenet"]  # 3x3 | 3x3, then 2x2 pooling | 7x7 with stride 2, then 3x3 pooling
_STEM_HALVINGS: dict[Stem, int] = {"small": 0, "pooled": 1, "imagenet": 2}


def basic_block(inputs: int, outputs: int, stride: int, norm: Norm, act: Activation) -> nn.Sequential:
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""
    branch: Layers = OrderedDict()
    branch["conv1"] = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
    branch["norm1"] = normalisation(norm, outputs)
    branch["act1"] = activation(act)
    branch["conv2"] = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
    branch["norm2"] = normalisation(norm, outputs)
    shortcut: Layers = OrderedDict()
    if stride != 1 or inputs != outputs:
        shortcut["conv"] = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        shortcut["norm"] = normalisation(norm, outputs)
    both = Residual(nn.Sequential(branch), nn.Sequential(shortcut))
    return nn.Sequential(OrderedDict(both=both, act2=activation(act)))


@component
class ResNet:
    """Stages of basic blocks; every stage after the first doubles the filters and halves the image.

    Layers are named ``conv1, norm1, act1, pool1, block1_1, block1_2, ..., pool, flatten, output``
    (no ``pool1`` with the small stem). The output is logits ``[B, classes]``.

    Of 32x32 pixels, the stem and 64 filters make 64x32x32 features (``small``), 64x16x16 (``pooled``) or 64x8x8
    (``imagenet``); the first two are the heads of Ensembler's section 5.1, for CIFAR-100 and CIFAR-10.
    """

    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Field(min_length=1)]  # blocks of every stage
    width: PositiveInt  # filters of the first stage
    stem: Stem
    norm: Norm
    activation: Activation
    init: Literal["he", "default"]

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        """Freshly initialised from ``rng``, on the CPU; inputs ``[B, C, H, W]``.

        ``init=he`` draws convolutions from a normal distribution of variance two by the weights that leave a pixel
        (He et al., 2015, equation 14), as torchvision does; ``default`` keeps PyTorch's values.

        Raises UserError where the image has too few pixels for the halvings.
        """
        halvings = len(self.blocks) - 1 + _STEM_HALVINGS[self.stem]
        key = f"model.stem={self.stem} with model.blocks={list(self.blocks)}"
        check_halvings(domain, halvings, rounds_up=True, key=key)
        with seeded(rng):
            layers = self._stem(domain.shape[0])
            channels = self.width
            for stage, count in enumerate(self.blocks, start=1):
                filters = self.width * 2 ** (stage - 1)
                for i in range(1, count + 1):
                    stride = 2 if i == 1 and stage > 1 else 1
                    block = basic_block(channels, filters, stride, self.norm, self.activation)
                    layers[f"block{stage}_{i}"] = block
                    channels = filters
            layers["pool"] = nn.AdaptiveAvgPool2d(1)
            layers["flatten"] = nn.Flatten()
            layers["output"] = nn.Linear(channels, domain.classes)
            model = nn.Sequential(layers)
            if self.init == "he":
                for layer in model.modules():
                    if isinstance(layer, nn.Conv2d):
                        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        return model

    def _stem(self, channels: int) -> Layers:
        kernel, stride = (7, 2) if self.stem == "imagenet" else (3, 1)
        layers: Layers = OrderedDict()
        layers["conv1"] = nn.Conv2d(channels, self.width, kernel, stride, kernel // 2, bias=False)
        layers["norm1"] = normalisation(self.norm, self.width)
        layers["act1"] = activation(self.activation)
        if self.stem == "imagenet":
            layers["pool1"] = nn.MaxPool2d(3, 2, 1)
        elif self.stem == "pooled":
            layers["pool1"] = nn.MaxPool2d(2, ceil_mode=True)  # keeps an odd pixel, as strided convolutions do
        return layers
