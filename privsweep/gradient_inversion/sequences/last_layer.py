"""What the last layer of a network that translates is given, and its gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from privsweep.gradient_inversion.sequences.first_attention import Beginning
from privsweep.interface.data import Tensors
from privsweep.interface.translation import END, PADDING
from privsweep.model.translation_transformer import Generator


@dataclass(frozen=True)
class LastLayer:
    """Axes: ``B`` pairs of ``Ls`` and ``Lt`` places, ``K`` words of the target, ``D`` the width."""

    begins: Beginning
    weights: Tensors
    weight: Tensor  # [K, D + 1], with the bias behind
    gradient: Tensor  # [K, D + 1], of these
    places: int  # Lt

    def inputs(self, sources: Tensor, targets: Tensor) -> Tensor:
        """Of every place of ``targets`` ``[B, l]``, whole or their beginnings: ``[B, l, D + 1]``, the last entry 1.

        Without dropout.
        """
        tokens = torch.cat((sources, targets), 1)
        with torch.no_grad():
            embedded = functional_call(self.begins.embedding, _under(self.weights, self.begins.first), tokens)
            made: Tensor = functional_call(self.begins.transformer, _under(self.weights, self.begins.second), embedded)
        return nn.functional.pad(made, (0, 1), value=1.0)


def last_layer(
    model: nn.Module, begins: Beginning, weights: Tensors, gradient: Tensors, places: int
) -> LastLayer | None:
    """None where a network ends otherwise than ``model.translation_transformer``, or nothing is sent of its gradient.

    ``places``: of a target.
    """
    name, layer = list(model.named_children())[-1]
    weight, bias = f"{name}.linear.weight", f"{name}.linear.bias"
    if not isinstance(layer, Generator) or weight not in gradient or bias not in gradient:
        return None
    whole, sent = (torch.cat((of[weight], of[bias][:, None]), 1).detach() for of in (weights, gradient))
    if not bool(sent.any()):
        return None
    return LastLayer(begins, {n: w.detach() for n, w in weights.items()}, whole, sent, places)


def next_words(targets: Tensor) -> Tensor:
    """The labels of targets ``[n, Lt]``: what follows every place, padding where nothing does."""
    return torch.cat((targets[:, 1:], torch.where((targets == END).any(1), PADDING, END)[:, None]), 1)


def _under(weights: Tensors, name: str) -> dict[str, Tensor]:
    return {n.removeprefix(f"{name}."): w for n, w in weights.items() if n.startswith(f"{name}.")}
