"""Convolutions one after the other between an image and the first dense layer: what can be undone layer by layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.func import functional_call

from privsweep.model.blocks import ACTIVATION_LAYERS
from privsweep.model.plain import is_plain
from privsweep.model.sequence import is_sequence
from privsweep.model.variational_bottleneck import Bottleneck

_FALLING = (nn.GELU, nn.SiLU)  # below some input, so that two inputs give one output
_INCREASING = tuple(kind for kind in ACTIVATION_LAYERS if kind not in _FALLING)


@dataclass(frozen=True)
class Convolution:
    """A convolution, and the activation after it."""

    name: str
    layer: nn.Conv2d
    activation: nn.Module  # elementwise and nowhere falling

    @property
    def padding(self) -> tuple[int, ...]:
        """Zeros around the image."""
        padding = self.layer.padding
        assert not isinstance(padding, str)
        return padding


@dataclass(frozen=True)
class ConvolutionChain:
    """What an image passes, in order, and the linear layer that is given the result, flattened."""

    convolutions: tuple[Convolution, ...]
    dense: str

    def run(self, weights: Mapping[str, Tensor], x: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of images ``[B, C, H, W]``, in order, what a convolution is given, answers, and what its activation makes."""
        for step in self.convolutions:
            own = {name: weights[f"{step.name}.{name}"] for name, _ in step.layer.named_parameters()}
            answer = functional_call(step.layer, own, (x,))
            after = step.activation(answer)
            yield x, answer, after
            x = after


def convolution_chain(model: nn.Module) -> ConvolutionChain | None:
    """The convolutions of a sequence before its first linear layer; None where anything else is among them.

    They have no groups and a bias or none; zeros are around the image. The linear layer is given all of it, and has a
    bias, so that what is behind it does not matter, or is the last and tells three classes or more apart.
    """
    found: list[Convolution] = []
    if not is_sequence(model):
        return None
    layers, flat = list(_layers(model, "")), False
    for name, layer in layers:
        if isinstance(layer, nn.Conv2d) and is_plain(layer) and not flat:
            if layer.groups > 1 or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
                return None
            found.append(Convolution(name, layer, nn.Sequential()))
        elif isinstance(layer, _INCREASING) and is_plain(layer):
            if not found:
                return None
            found[-1] = Convolution(found[-1].name, found[-1].layer, nn.Sequential(found[-1].activation, layer))
        elif isinstance(layer, nn.Linear | Bottleneck) and is_plain(layer):
            inner, dense = (f"{name}.encoder", layer.encoder) if isinstance(layer, Bottleneck) else (name, layer)
            last = layer is layers[-1][1] and dense is layer and dense.out_features > 2
            told = (last or dense.bias is not None) and is_plain(dense)
            return ConvolutionChain(tuple(found), inner) if found and flat and told else None
        elif isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            flat = True
        else:
            return None
    return None


def _layers(model: nn.Sequential, before: str) -> Iterator[tuple[str, nn.Module]]:
    for name, layer in model.named_children():
        if is_sequence(layer):
            yield from _layers(layer, f"{before}{name}.")
        else:
            yield f"{before}{name}", layer
