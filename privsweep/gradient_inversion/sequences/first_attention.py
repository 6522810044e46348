"""Where a translation transformer first attends to each of its two sequences.

Axes: ``K`` words of a vocabulary, ``L`` places of a sequence, ``D`` the embedding's width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from privsweep.interface.data import Tensors
from privsweep.interface.translation import TranslationDomain
from privsweep.model.dropout import Dropout
from privsweep.model.positions import placed
from privsweep.model.translation_transformer import Embedding, Transformer

# The block that attends to it first, and what is given the outcome.
_BLOCKS = {"source": ("encoder", "linear1.weight"), "target": ("decoder", "multihead_attn.in_proj_weight")}


@dataclass(frozen=True)
class Side:
    """One of the two sequences, and the layers that see it first."""

    embedding: str  # the name of the words' vectors
    attention: str  # of the weight that makes queries, keys and values of a sequence, of each ``D`` rows
    words: Tensor  # [K, D], as they are added to places
    places: Tensor  # [L, D]
    weight: Tensor  # [3 D, D]
    bias: Tensor  # [3 D]
    out_weight: Tensor  # [D, D], of what the heads have gathered
    out_bias: Tensor  # [D]
    scale: Tensor  # [D], of the normalisation of that and the inputs together
    shift: Tensor  # [D]
    following: str  # the name of the weight, or of a weight whose first ``D`` rows, that is given the outcome
    heads: int
    causal: bool  # every place attends to those before it alone, so that an end, behind all, has no gradient
    kept: float  # the share of entries that dropout leaves of their sum; 1: there is none

    def inputs(self, words: Tensor, places: Tensor) -> Tensor:
        """What the attention is given, but for dropout, of words at places: ``[n, D]``."""
        return (self.words[words] + self.places[places]) / self.kept

    def looked_at(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values ``[..., heads, n, D / heads]`` of inputs ``[..., n, D]``."""
        made = inputs @ self.weight[len(self.out_bias) :].T + self.bias[len(self.out_bias) :]
        key, value = made.unflatten(-1, (2, self.heads, -1)).movedim(-3, 0).transpose(-2, -3)
        return key, value

    def attended(self, inputs: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """What the layer behind the attention is given at places with ``inputs`` ``[..., n, D]``.

        They attend to all that there are keys and values of.
        """
        width = inputs.shape[-1]
        query = (inputs @ self.weight[:width].T + self.bias[:width]).unflatten(-1, (self.heads, -1)).transpose(-2, -3)
        weight = (query @ key.mT * key.shape[-1] ** -0.5).softmax(-1)
        gathered = (weight @ value).transpose(-2, -3).flatten(-2)
        whole = inputs + gathered @ self.out_weight.T + self.out_bias
        return layer_norm(whole, (width,), self.scale, self.shift)


@dataclass(frozen=True)
class Beginning:
    """The first two layers of a network that translates."""

    first: str
    embedding: Embedding
    second: str
    transformer: Transformer

    def names(self, words: str) -> tuple[str, str, str]:
        """The parameters whose gradients tell, of ``source`` or ``target``: of words, attention, and what follows."""
        block, following = _BLOCKS[words]
        layer = f"{self.second}.{block}.layers.0"
        return f"{self.first}.{words}.weight", f"{layer}.self_attn.in_proj_weight", f"{layer}.{following}"


def beginning(model: nn.Module) -> Beginning | None:
    """None where a network does not begin with the layers of ``model.translation_transformer``."""
    layers = list(model.named_children())[:2]
    if len(layers) == 2:
        (first, embedding), (second, transformer) = layers
        if isinstance(embedding, Embedding) and isinstance(transformer, Transformer):
            return Beginning(first, embedding, second, transformer)
    return None


def sides(begins: Beginning, weights: Tensors, domain: TranslationDomain) -> tuple[Side, Side]:
    """Of the source and of the target, on the CPU in double precision."""
    drop = begins.embedding.drop
    kept = 1 - drop.p if isinstance(drop, Dropout) and drop.training else 1.0

    def of(name: str) -> Tensor:
        return weights[name].detach().cpu().double()

    def side(words: str, places: int) -> Side:
        embedding, weight, following = begins.names(words)
        attention = weight.removesuffix(".in_proj_weight")
        norm = f"{attention.removesuffix('self_attn')}norm1"
        table = of(embedding)
        width = table.shape[1]
        block = getattr(begins.transformer, _BLOCKS[words][0])
        return Side(
            embedding=embedding,
            attention=weight,
            words=table * math.sqrt(width),
            places=placed(torch.zeros(1, places, width))[0].double(),
            weight=of(weight),
            bias=of(f"{attention}.in_proj_bias"),
            out_weight=of(f"{attention}.out_proj.weight"),
            out_bias=of(f"{attention}.out_proj.bias"),
            scale=of(f"{norm}.weight"),
            shift=of(f"{norm}.bias"),
            following=following,
            heads=block.layers[0].self_attn.num_heads,
            causal=words == "target",
            kept=kept,
        )

    return side("source", domain.source_length), side("target", domain.target_length)
