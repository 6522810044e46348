"""One gradient an example, and the sum of what a defence makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng

# Numbers held at once. On a CPU the gradients of few examples stay in its caches: LeNet's 64 take 120 ms, not 149.
HELD = {"cpu": 2**23, "cuda": 2**28}


def example_gradients(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, noise: Tensors
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient ``[B, ...]`` and the loss ``[B]`` of every example by itself, of parameters that are not frozen.

    ``noise`` ``[B, ...]`` is what stochastic layers read. Not for layers that mix examples.
    """
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}

    def single(weights: Tensors, x: Tensor, y: Tensor, noise: Tensors) -> Tensor:
        outputs = functional_call(model, {**weights, **{n: z[None] for n, z in noise.items()}}, (x[None],))
        return loss(outputs, y[None])

    return vmap(grad_and_value(single), in_dims=(None, 0, 0, 0))(weights, x, y, dict(noise))


def defended_sum(
    model: nn.Module, loss: Loss, x: Tensor, y: Tensor, noise: Tensors, defense: Defense, rng: Rng
) -> tuple[dict[str, Tensor], Tensor]:
    """The sum of the examples' gradients, each as the defence lets it pass, and their mean loss.

    A few examples at a time, so that memory does not grow with the batch. An empty batch gives zeros.
    """
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    total = {name: torch.zeros_like(p) for name, p in named.items()}
    values = [torch.zeros(0, device=x.device)]
    size = max(1, HELD[x.device.type] // sum(p.numel() for p in named.values()))
    for n, start in enumerate(range(0, len(x), size)):
        part = slice(start, start + size)
        grads, value = example_gradients(model, loss, x[part], y[part], {k: z[part] for k, z in noise.items()})
        for name, g in defense.example_gradients(grads, rng.child("examples", n)).items():
            total[name] += g.sum(0)
        values.append(value)
    return total, torch.cat(values).sum() / max(len(x), 1)
