"""What one who has a client's part knows of how it perturbs what it sends."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from privsweep.model.perturbation import Perturbation


def variants(part: nn.Module) -> list[nn.Module]:
    """A client's part, or as many as there are draws of a layer that takes one of a few tensors, each with one."""
    found = [part]
    for name, layer in part.named_children():
        if isinstance(layer, Perturbation) and (each := layer.each()):
            found = [_exchanged(one, name, instead) for one in found for instead in each]
    return found


def _exchanged(part: nn.Module, name: str, layer: nn.Module) -> nn.Module:
    """``part``, in its mode, with another layer of that name; the others are shared."""
    own = nn.Sequential(OrderedDict({**dict(part.named_children()), name: layer}))
    own.training = part.training
    return own


def lost_in(part: nn.Module, z: Tensor) -> Tensor | None:
    """Which features of what ``part`` has sent may have been dropped, bool of the shape of ``z``; None: none.

    Those that are what comes of a zero behind the last layer that drops any.
    """
    layers = list(part.children())
    dropping = [n for n, layer in enumerate(layers) if isinstance(layer, Perturbation) and layer.drops]
    if not dropping:
        return None
    with torch.no_grad():
        empty: Tensor = nn.Sequential(*layers[dropping[-1] + 1 :])(torch.zeros_like(z[0, :1]))
    return z == empty
