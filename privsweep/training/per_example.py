"""One gradient an example, and the sum of what a defence makes of them."""

from __future__ import annotations

import math
from copy import deepcopy
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from privsweep.compiled.convolution import compiled_for
from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.residual import Residual
from privsweep.model.sequence import is_sequence
from privsweep.training.clipped_sum import Layers, clipped_sum, layers_with_parameters, numbers_held
from privsweep.training.stacked import numbers_of

# Numbers held at once. On a CPU the gradients of few examples stay in its caches: LeNet's 64 take 120 ms, not 149.
HELD = {"cpu": 2**23, "cuda": 2**28}
_PASSING = {"cpu": 2**24, "cuda": 2**30}  # of what passes through the layers
# Gradients of a network are not formed where one has more numbers than this many times what passes through. On one CPU
# core (scripts/thresholds.py) the perceptrons then take a thirtieth of the time (273 and more), AlexNet 0.4 (6.3);
# LeNet and DLG's would take 1.4 (0.77, 0.2). Nor where compiled code forms a convolution's: 0.8 and 0.3 there.
_SHARE = 1.0
_passing: WeakKeyDictionary[nn.Module, tuple[torch.Size, int]] = WeakKeyDictionary()  # numbers, of inputs of a shape


def example_gradients(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, noise: Tensors
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient ``[B, ...]`` and the loss ``[B]`` of every example by itself, of parameters that are not frozen.

    ``noise`` ``[B, ...]`` is what stochastic layers read. Not for layers that mix examples. Raises UserError for a
    model that keeps count of what passes it.
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def single(weights: Tensors, x: Tensor, y: Tensor, noise: Tensors) -> Tensor:
        outputs = functional_call(model, {**weights, **{n: z[None] for n, z in noise.items()}}, (x[None],))
        return loss(outputs, y[None])

    try:
        return vmap(grad_and_value(single), in_dims=(None, 0, 0, 0))(weights, x, y, dict(noise))
    except RuntimeError as error:
        if (changed := _changed_buffer(model, x)) is None:
            raise
        raise UserError(
            f"model: writes into its buffer {changed} while it trains, so that no example has a gradient of its own; "
            "let it leave buffers as they are, or take a defence and an attack that ask for none"
        ) from error


def _changed_buffer(model: nn.Module, x: Tensor) -> str | None:
    """The name of a buffer that a pass through the model changes in place."""
    there = deepcopy(model)
    before = {name: buffer._version for name, buffer in there.named_buffers()}
    with torch.no_grad():
        there(x)
    return next((name for name, buffer in there.named_buffers() if buffer._version != before.get(name)), None)


def defended_sum(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, noise: Tensors, defense: Defense, rng: Rng
) -> tuple[dict[str, Tensor], Tensor]:
    """The sum of the examples' gradients, each as the defence lets it pass, and their mean loss.

    A few examples at a time, so that memory does not grow with the batch. An empty batch gives zeros. Where they are
    only clipped, and are larger than what they are products of, none is formed.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    values = [torch.zeros(0, device=x.device)]
    parameters, bound = sum(p.numel() for p in named.values()), defense.example_bound()
    layers = _plain_layers(model, y) if len(x) and bound is not None and bound < math.inf else None
    numbers = 0 if layers is None else passing_through(model, layers, x)
    if layers is not None and (parameters >= _SHARE * numbers or _compiled(layers, x)):
        assert bound is not None
        for part in _parts(len(x), _PASSING[x.device.type] // numbers):
            own = {name: z[part] for name, z in noise.items()}
            grads, value = clipped_sum(layers, model, loss, x[part], y[part], own, bound)
            for name, g in grads.items():
                total[name] += g
            values.append(value[None] * len(x[part]))
        return total, torch.cat(values).sum() / len(x)
    for n, part in enumerate(_parts(len(x), HELD[x.device.type] // parameters)):
        grads, value = example_gradients(model, loss, x[part], y[part], {k: z[part] for k, z in noise.items()})
        for name, g in defense.example_gradients(grads, rng.child("examples", n)).items():
            total[name] += g.sum(0)
        values.append(value)
    return total, torch.cat(values).sum() / max(len(x), 1)


def _parts(examples: int, size: int) -> list[slice]:
    size = max(1, size)
    return [slice(start, start + size) for start in range(0, examples, size)]


def _compiled(layers: Layers, x: Tensor) -> bool:
    convolutions = any(isinstance(layer, nn.Conv2d) for layer in layers.values())
    return convolutions and compiled_for(x.device, x.dtype)


def _plain_layers(model: nn.Module, y: Tensor) -> Layers | None:
    """Those with parameters, where each is passed once and the loss is a mean over the examples' own."""
    blocks = [part for part in model.modules() if list(part.children())]
    known = all(is_sequence(part) or isinstance(part, Residual) for part in blocks)
    return layers_with_parameters(model) if known and y.dim() == 1 else None


def passing_through(model: nn.Module, layers: Layers, x: Tensor) -> int:
    """Numbers that one example leaves behind; told once, by trying."""
    known = _passing.get(model)
    if known is None or known[0] != x.shape[1:]:
        known = x.shape[1:], sum(numbers_of(model, x[:1])) + numbers_held(layers, model, x[:1])
        _passing[model] = known
    return known[1]
