"""How much memory gradient matching takes, and how many victims at once fit a budget.

An estimate in bytes, held against measured memory by ``tests/gradient_inversion/engine/test_memory.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from privsweep.gradient_inversion.engine.low_rank import SLICE
from privsweep.gradient_inversion.engine.rule_conv import GramConv, PatchConv, kind_of
from privsweep.gradient_inversion.engine.rule_dense import SMALL
from privsweep.interface.data import Tensors

# All were found by measuring peak memory on the CPU; an accelerator's allocator may round differently.
_PER_OUTPUT = 6  # copies of a layer's output: its value, derivatives and tangents in the four sweeps (LeNet: 4 to 5)
_GRAM = 6  # of what passes a convolution of few positions, in and out, numbers in float64 count twice
# Vectors as long as the unknowns: those that stay, and those of a step, which are gone when the next sweeps begin.
_STAY, _STEP = {"adam": 6, "lbfgs": 22}, {"adam": 18, "lbfgs": 11}


@dataclass(frozen=True)
class BatchActivations:
    """What the layers of a network hold of one victim's batch in the sweeps of gradient matching."""

    shape: tuple[int, ...]  # (B, C, H, W)
    positions: Mapping[str, int]  # of every convolution by name: how many its window takes in the batch
    normalised: Mapping[str, int]  # of every batch normalisation by name: numbers of a channel in the batch
    convolutions: Mapping[str, nn.Conv2d]  # on the meta device
    elements: int  # outputs with what is kept beside them

    @property
    def examples(self) -> int:
        return self.shape[0]


@lru_cache(maxsize=2)  # an attack asks for its memory, and again for its rules
def batch_activations(model: nn.Module, shape: tuple[int, ...]) -> BatchActivations:
    """``shape``: ``(B, C, H, W)``. Black images pass a copy of the model in eval mode, on the model's device: not on
    the meta device, for a user's network may read values."""
    part = deepcopy(model).eval()
    positions: dict[str, int] = {}
    normalised: dict[str, int] = {}
    elements = 0

    def count(name: str, layer: nn.Module) -> Callable[[nn.Module, tuple[Tensor, ...], Any], None]:
        def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> None:
            nonlocal elements
            # A recurrent layer puts out a tuple, and a user's own whatever it likes.
            elements += _PER_OUTPUT * sum(t.numel() for t in tree_leaves(output) if isinstance(t, Tensor))
            if isinstance(layer, nn.Conv2d):
                positions[name] = output.numel() // output.shape[1]
            if isinstance(layer, _BatchNorm):
                normalised[name] = output.numel() // output.shape[1]

        return hook

    for name, layer in part.named_modules():
        if not any(layer.children()):
            layer.register_forward_hook(count(name, layer))
    with torch.no_grad():
        part(next(part.parameters()).new_zeros(shape))
    layers = dict(part.named_modules())
    convolutions = {name: cast(nn.Conv2d, layers[name].to("meta")) for name in positions}
    return BatchActivations(shape, positions, normalised, convolutions, elements)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, besides the captured gradients where they lie already."""

    per_victim: int
    factorised: int  # per victim, in float64 and for a moment, until ``SLICE`` entries are reached

    def of(self, victims: int) -> int:
        """At the peak: either while captured gradients are factorised, before the search, or during the search."""
        return max(victims * self.per_victim, min(victims * self.factorised, max(self.factorised, 3 * 8 * SLICE)))

    def victims_within(self, gibibytes: float) -> int:
        """How many can be attacked at once; at least one."""
        return max(1, int(gibibytes * 2**30 / self.per_victim))


def estimate_memory(
    target: Tensors,
    activations: BatchActivations,
    unknowns: int,
    history: int,
    restarts: int,
    only_nonzero: bool,
    device: torch.device,
) -> MemoryEstimate:
    """``target``: captured gradients ``[V, ...]``, which move to ``device`` for the attack. ``unknowns``: numbers that
    are searched for in one start. ``history``: pairs of vectors that L-BFGS keeps, 0 for Adam."""
    like = next(iter(target.values()))
    numel = {name: g[0].numel() for name, g in target.items()}
    wide = {name for name, g in target.items() if g.dim() == 3 and numel[name] > SMALL and not only_nonzero}
    beside = 0
    for name, layer in activations.convolutions.items():
        positions, (outputs, inputs) = activations.positions[name], layer.weight.flatten(1).shape
        kind = kind_of(layer, positions, only_nonzero, device, like.dtype)
        if kind is GramConv:
            wide.add(f"{name}.weight")
            beside += _GRAM * positions * (outputs + inputs)
        elif kind is PatchConv:
            beside += 2 * positions * inputs  # patches and their columns
    # A wide dense layer, and a convolution of few positions, form no residual. Others hold one, a direction and
    # temporaries.
    copies = {name: int(restarts > 1) if name in wide else 3 for name in numel}
    matched = sum(copies[name] * n for name, n in numel.items())
    rule = "lbfgs" if history else "adam"
    stays = 2 * history * unknowns + 2 * history**2 + _STAY[rule] * unknowns  # the triangle is in float64
    each = restarts * (stays + max(_STEP[rule] * unknowns, matched + activations.elements + beside))
    moved = sum(numel.values()) if like.device.type != device.type else 0
    per_victim = like.element_size() * (each + moved)
    return MemoryEstimate(per_victim, 3 * 8 * max((numel[name] for name in wide), default=0))
