"""A decoder from activations back to images: the mirror image of a network's first layers."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from privsweep.activation_inversion.initial_values import initialise
from privsweep.interface.data import Domain
from privsweep.model.split_network import SplitNetwork

Shape = tuple[int, ...]
_FARTHEST = 4  # what is enlarged more, was averaged over the whole map


@dataclass(frozen=True)
class Stage:
    """A layer that learns, on the way from the image to the activations, with all that follows before the next."""

    kind: Literal["convolution", "dense"]
    reads: Shape
    kernel: Shape  # of a convolution, as high and as wide
    feature_map: Shape  # [C, H, W], the last one that it leads to
    beside: int  # further convolutions within, such as those of shortcuts


def trace(head: nn.Module, domain: Domain) -> tuple[list[Stage], Shape]:
    """The stages of ``head``, in order, and the shape of its output, both without the batch.

    Nothing is computed: a zero image passes on the meta device, in eval mode. A convolution that reads what another
    one has read stands beside the main path.
    """
    part = deepcopy(head).to("meta").eval()
    found: list[dict[str, Any]] = []
    seen: list[Tensor] = []

    def before(module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        x = arguments[0]
        if found and any(x is other for other in seen):
            found[-1]["beside"] += 1
            return
        seen.append(x)
        kernel = module.kernel_size if isinstance(module, nn.Conv2d) else ()
        kind = "convolution" if kernel else "dense"
        reads = tuple(x.shape[1:])
        found.append({"kind": kind, "reads": reads, "kernel": kernel, "feature_map": domain.shape, "beside": 0})

    def after(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        if found and output.dim() == 4:
            found[-1]["feature_map"] = tuple(output.shape[1:])

    for module in part.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_pre_hook(before)
        module.register_forward_hook(after)
    with torch.no_grad():
        output = part(torch.zeros(1, *domain.shape, device="meta"))
    return [Stage(**stage) for stage in found], tuple(output.shape[1:])


def unmirrored(model: nn.Module, domain: Domain) -> str | None:
    """Why the head of ``model`` has no mirror image that could learn, or None; where it is not cut yet, it may have."""
    head = model.head if isinstance(model, SplitNetwork) else model
    with suppress(RuntimeError):  # of a layer that goes by values
        if any(stage.kind == "dense" and len(stage.reads) > 1 for stage in trace(head, domain)[0]):
            return (
                "attack.decoder=mirror: dense layers that take several vectors of an image, as a transformer's, have "
                "no mirror image; take attack.decoder=residual"
            )
    if head is model or any(isinstance(layer, nn.Conv2d | nn.Linear) for layer in head.modules()):
        return None
    return (
        "attack.decoder=mirror: the client's head has no convolution and no dense layer to mirror; take "
        "attack.decoder=residual, or another fl_setting.first_split"
    )


def mirror(head: nn.Module, domain: Domain, kernel: int | None, width: int | None) -> nn.Sequential:
    """A decoder ``[B, ...] -> [B, C, H, W]``, pixels in ``[0, 1]``, with one layer for each that learns in ``head``.

    Backwards: a convolution becomes a transposed one, with the stride that makes up for all the halving up to the next
    layer, and a dense layer a dense one; ReLU between, a sigmoid at the end. Where ``head`` flattens, its feature map
    is restored. What it averages over the whole map (to less than a quarter) is spread again, pixels repeated. A
    convolution beside the main path becomes one that keeps the shape.

    kernel: of transposed convolutions; None: of each as of its counterpart. Those that enlarge the map by s have
    ``kernel + s - 1``, 4 for 3 and 2, those that keep an odd one.
    width: channels of the feature maps between the layers; None: as many as ``head`` has there.
    Initial values are He's (2015) for the inputs that reach one output.

    Zen, section 4.2: as many transposed convolutions as convolutions before the cut; the rest is ours.
    """
    stages, output = trace(head, domain)
    # the shape before and after every stage, with flattened feature maps as maps
    between = [_widened(_between(first, second), width) for first, second in pairwise(stages)]
    shapes = [domain.shape, *between, output]
    layers: list[nn.Module] = []
    if stages and stages[-1].kind == "convolution" and len(output) != 3:
        restored = stages[-1].feature_map
        layers += [] if prod(output) == prod(restored) else [nn.Linear(prod(output), prod(restored)), nn.ReLU()]
        layers.append(nn.Unflatten(1, restored))
        shapes[-1] = restored
    for n in reversed(range(len(stages))):
        small, large = shapes[n + 1], shapes[n]
        if stages[n].kind == "dense":
            layers += [nn.Flatten()] if len(small) > 1 else []
            layers.append(nn.Linear(prod(small), prod(large)))
            layers += [nn.Unflatten(1, large)] if len(large) > 1 else []
        else:
            kernels = stages[n].kernel if kernel is None else (kernel, kernel)
            for _ in range(stages[n].beside):
                layers += [*_enlarge(small, small, kernels), nn.ReLU()]
            layers += _enlarge(small, large, kernels)
        layers.append(nn.ReLU() if n else nn.Sigmoid())
    decoder = nn.Sequential(*layers)
    initialise(decoder)
    return decoder


def _between(first: Stage, second: Stage) -> Shape:
    return first.feature_map if first.kind == "convolution" else second.reads


def _widened(shape: Shape, width: int | None) -> Shape:
    return (width, *shape[1:]) if width and len(shape) == 3 else shape


def _enlarge(small: Shape, large: Shape, kernel: Shape) -> list[nn.Module]:
    """Layers from feature maps ``small`` to ``large``, ``[C, H, W]`` each, one of which learns."""
    spread: list[nn.Module] = []
    if max(b / a for a, b in zip(small[1:], large[1:], strict=True)) > _FARTHEST:
        spread = [nn.Upsample(large[1:])]
        small = (small[0], *large[1:])
    sides = [_side(a, b, k) for a, b, k in zip(small[1:], large[1:], kernel, strict=True)]
    kernels, strides, paddings, extra = (tuple(side[n] for side in sides) for n in range(4))
    return [*spread, nn.ConvTranspose2d(small[0], large[0], kernels, strides, paddings, extra)]  # type: ignore[arg-type]


def _side(small: int, large: int, kernel: int) -> tuple[int, int, int, int]:
    """Kernel, stride, padding and output padding that lead from ``small`` pixels a side to exactly ``large``."""
    stride = max(1, round(large / small))
    least = large - (small - 1) * stride  # without padding
    k = max(kernel + stride - 1, least)
    if stride == 1 and (k - least) % 2:
        k += 1  # there is no output padding without a stride
    padding = (k - least + 1) // 2
    return k, stride, padding, 2 * padding - (k - least)
