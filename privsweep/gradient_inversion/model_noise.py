"""The noise that an attacker draws for the stochastic layers of the attacked network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from privsweep.interface.data import Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.sequence import is_sequence
from privsweep.model.stochastic import noise_layers

_AHEAD = 32  # evaluations whose noise is drawn at once


def noise_shapes(model: nn.Module, batch: int) -> dict[str, tuple[int, ...]]:
    """The shape ``[B, ...]`` of every stochastic layer's noise, by name; empty for a deterministic model."""
    return {name: (batch, *layer.noise_shape) for name, layer in noise_layers(model).items()}


def of_deterministic_layers(model: nn.Module, gradients: Tensors) -> dict[str, Tensor]:
    """The gradients of the layers before the first that draws noise, the only ones that noise leaves deterministic.

    PRECODE's authors leave out the other layers in later work (Scheliga et al., arXiv 2309.04515).
    Raises UserError for a deterministic model, and for one that is not a sequence of layers.
    """
    noisy = noise_layers(model)
    if not noisy:
        raise UserError(
            "attack.match=deterministic_layers: the model draws no noise; take attack.match=all, or defense=[precode]"
        )
    if not is_sequence(model):
        raise UserError(
            "attack.match=deterministic_layers: the model is not a sequence of layers, so none is known to precede the "
            "noise; take attack.match=all"
        )
    first = next(iter(noisy)).partition(".")[0]
    names = [name for name, _ in model.named_children()]
    before = set(names[: names.index(first)])
    return {name: g for name, g in gradients.items() if name.partition(".")[0] in before}


class NoiseStreams:
    """Fresh standard normal noise for every evaluation, from a stream per victim that lasts through the attack."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], rngs: Sequence[Rng], like: Tensor):
        """``rngs``: one a victim; ``like`` gives dtype and device."""
        self.shapes = dict(shapes)
        self.generators = [rng.child("noise").generator() for rng in rngs]
        self.like = like
        self.ahead: dict[str, Tensor] = {}
        self.next = _AHEAD

    def take(self, rows: Tensor) -> NoiseStreams:
        """The streams of the victims ``rows``, each once, in their present state."""
        part = NoiseStreams(self.shapes, (), self.like)
        part.generators = [self.generators[r] for r in rows.tolist()]
        part.ahead, part.next = {name: drawn[:, rows] for name, drawn in self.ahead.items()}, self.next
        return part

    def draw(self) -> dict[str, Tensor]:
        """Noise ``[V, B, ...]`` by name."""
        if self.next == _AHEAD:
            self.ahead = {name: self._draw_ahead(shape) for name, shape in self.shapes.items()}
            self.next = 0
        now = {name: drawn[self.next] for name, drawn in self.ahead.items()}
        self.next += 1
        return now

    def _draw_ahead(self, shape: tuple[int, ...]) -> Tensor:
        each = [torch.randn(_AHEAD, *shape, generator=g) for g in self.generators]
        return torch.stack(each, 1).to(self.like)
