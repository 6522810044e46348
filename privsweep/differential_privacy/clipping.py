"""Bounds on what one example, or one client, can contribute."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privsweep.compiled.entries import with_normal
from privsweep.interface.data import Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.blocks import IN_GROUPS

_LEAST = 1e-6  # added to a norm, as Opacus does, so that zeros stay zeros


def clip(items: Tensors, bound: float) -> dict[str, Tensor]:
    """Scales each of ``n`` items down to the L2 norm ``bound``, over all its parameters together.

    ``items``: ``[n, ...]`` by parameter. Abadi et al., "Deep Learning with Differential Privacy" (2016), algorithm 1.
    """
    norms = torch.stack([t[:, None].flatten(1).norm(dim=1) for t in items.values()]).norm(dim=0)
    factor = clip_factors(norms, bound)
    return {name: t * factor.view(-1, *[1] * (t.dim() - 1)) for name, t in items.items()}


def clip_factors(norms: Tensor, bound: float) -> Tensor:
    """What scales gradients of these L2 norms down to ``bound``, in (0, 1]; of the same shape."""
    return (bound / (norms + _LEAST)).clamp(max=1)


def refuse_statistics(defense: str, model: nn.Module) -> None:
    """Raises UserError where a layer mixes examples, or keeps statistics that no noise reaches."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            raise UserError(
                f"defense={defense}: layer {name} normalises over the batch, so that no bound holds for one example; "
                f"take {IN_GROUPS}, or a model without it"
            )
        if getattr(layer, "track_running_stats", False):
            raise UserError(
                f"defense={defense}: layer {name} keeps running statistics, which go out with the model and no noise "
                "reaches; build it with track_running_stats=False"
            )


def noised(items: Tensors, deviation: float, rng: Rng) -> dict[str, Tensor]:
    """Gaussian noise of that standard deviation on every entry."""
    compiled = with_normal([*items.values()], deviation, rng.key)
    if compiled is not None:
        return dict(zip(items, compiled, strict=True))
    generator = rng.generator(next(iter(items.values())).device)
    # Drawn in the order of the axes, whatever the layout in memory.
    made = {name: torch.empty_like(t, memory_format=torch.contiguous_format) for name, t in items.items()}
    return {name: t + made[name].normal_(0, deviation, generator=generator) for name, t in items.items()}
