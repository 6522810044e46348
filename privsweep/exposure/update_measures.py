"""What who has the truth can say of captured updates: how large they are, and how well noise can hide an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privsweep.interface.data import Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.first_layer import first_linear
from privsweep.training.local import gradient


def update_norms(delta: Tensors) -> list[float]:
    """The L2 norm of what was sent for every victim, ``[V, ...]`` by name."""
    norms = torch.stack(
        [torch.linalg.vector_norm(d[:, None].flatten(1), dim=1, dtype=torch.float64) for d in delta.values()]
    )
    return torch.linalg.vector_norm(norms, dim=0).tolist()


def noise_floors(net: nn.Module, loss: Loss, x: Tensor, y: Tensor, defense: Defense, rng: Rng) -> list[float] | None:
    """The mean squared error of every input, on the scale of model inputs, that noise on a gradient must leave.

    A linear first layer sends ``d x^T``, where ``d`` is the error of its units. Who knows ``d`` finds every entry of
    ``x`` by least squares with variance ``(noise / |d|)^2``, and no unbiased estimate from this layer does better.
    ``d`` is read off the bias of the gradient without noise, clipped where the defence clips.

    ``x`` ``[V, C, H, W]`` and ``y`` ``[V]`` are the victims' inputs and labels. None where the first layer is not
    linear, has no bias or does not see the whole of an input.
    """
    first = first_linear(net, x[0].numel())
    if first is None:
        return None
    noise = defense.gradient_noise(1)
    if noise == 0:
        return [0.0] * len(x)
    floors = []
    for victim in range(len(x)):
        own = slice(victim, victim + 1)
        grad, _ = gradient(net, loss, x[own], y[own], Defense(), rng.child(victim))
        passed = defense.example_gradients({name: g[None] for name, g in grad.items()}, rng.child(victim, "examples"))
        floors.append(noise**2 / float(passed[f"{first}.bias"].double().square().sum().clamp_min(1e-300)))
    return floors
