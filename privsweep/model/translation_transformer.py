"""The transformer of PyTorch's tutorial on translation, in three layers that it can be cut between.

Axes: ``B`` pairs, ``Ls, Lt`` places of the source and of the target, ``K`` words of the target's vocabulary.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from privsweep.interface.component import component
from privsweep.interface.data import Domain, TextDomain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.translation import PADDING, TranslationDomain
from privsweep.model.dropout import Dropout
from privsweep.model.positions import placed


@component
class TranslationTransformer:
    """Encoder and decoder of Vaswani et al. (2017), normalised behind every block; layers embed, transformer, output.

    Inputs are int64 ``[B, Ls + Lt]`` as a TranslationDomain has them, outputs ``[B, K, Lt]``. What ``embed`` hands on,
    ``[B, Ls + Lt, width + 1]``, says in its last column which places are padding. Matrices start from Glorot's uniform
    values. Dropout is that of the tutorial but for attention weights, which are not dropped.
    """

    width: PositiveInt  # of the embeddings
    heads: PositiveInt
    layers: Annotated[int, Field(ge=1, le=1000)]  # of the encoder, and as many of the decoder
    feedforward: PositiveInt  # width between the two dense layers of a block
    dropout: Annotated[float, Field(ge=0, lt=1)]

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise UserError(
                f"model.width={self.width}: must be a multiple of twice model.heads={self.heads}; take "
                f"model.width={2 * self.heads * math.ceil(self.width / (2 * self.heads))}"
            )

    def build(self, domain: Domain | TextDomain, rng: Rng) -> nn.Sequential:
        """Freshly initialised from ``rng``, on the CPU. Raises UserError where the data are no pairs of sentences."""
        if not isinstance(domain, TranslationDomain):
            raise UserError(
                f"model: translates, and the dataset holds {domain}; take dataset=multi30k, or for images another "
                "model, such as model=lenet"
            )
        with seeded(rng):
            layers: list[tuple[str, nn.Module]] = [
                ("embed", Embedding(domain, self.width, self.dropout)),
                ("transformer", Transformer(domain, self)),
                ("output", Generator(self.width, domain.classes)),
            ]
            model = nn.Sequential(OrderedDict(layers))
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        return model


class Embedding(nn.Module):
    """The embeddings of both languages, with sinusoidal positions; the last column marks padding."""

    def __init__(self, domain: TranslationDomain, width: int, dropout: float):
        super().__init__()
        self.source_length = domain.source_length
        self.source = nn.Embedding(len(domain.source), width)
        self.target = nn.Embedding(len(domain.target), width)
        self.drop = _dropout(domain.length, width, dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        sides = (tokens[:, : self.source_length], self.source), (tokens[:, self.source_length :], self.target)
        embedded = [placed(embedding(side) * math.sqrt(embedding.embedding_dim)) for side, embedding in sides]
        padding = (tokens == PADDING)[..., None].to(embedded[0].dtype)
        return torch.cat((self.drop(torch.cat(embedded, 1)), padding), -1)


class Transformer(nn.Module):
    """Encoder and decoder: ``[B, Ls + Lt, width + 1]``, as the embedding gives them, to ``[B, Lt, width]``."""

    def __init__(self, domain: TranslationDomain, sizes: TranslationTransformer):
        super().__init__()
        self.source_length = domain.source_length
        width, heads, wide, p = sizes.width, sizes.heads, sizes.feedforward, sizes.dropout
        one = nn.TransformerEncoderLayer(width, heads, wide, dropout=0.0, batch_first=True)
        other = nn.TransformerDecoderLayer(width, heads, wide, dropout=0.0, batch_first=True)
        _draw_by_stream(one, domain.source_length, width, wide, p)
        _draw_by_stream(other, domain.target_length, width, wide, p)
        self.encoder = nn.TransformerEncoder(one, sizes.layers, nn.LayerNorm(width), enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(other, sizes.layers, nn.LayerNorm(width))

    def forward(self, z: Tensor) -> Tensor:
        padding = z[..., -1] > 0.5
        (source, target), (hidden, ahead) = (
            (x[:, : self.source_length], x[:, self.source_length :]) for x in (z[..., :-1], padding)
        )
        places = target.shape[1]
        later = torch.ones(places, places, dtype=torch.bool, device=z.device).triu(1)
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels cannot be stacked, and gain nothing at these lengths
            memory = self.encoder(source, src_key_padding_mask=hidden)
            masks = {"tgt_key_padding_mask": ahead, "memory_key_padding_mask": hidden}
            out: Tensor = self.decoder(target, memory, tgt_mask=later, tgt_is_causal=True, **masks)
        return out


class Generator(nn.Module):
    """Scores of all words at every place: ``[B, Lt, width]`` to ``[B, K, Lt]``."""

    def __init__(self, width: int, words: int):
        super().__init__()
        self.linear = nn.Linear(width, words)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linear(x)
        return scores.mT


def _dropout(length: int, width: int, p: float) -> nn.Module:
    return Dropout((length, width), p) if p else nn.Identity()


def _draw_by_stream(layer: nn.Module, length: int, width: int, wide: int, p: float) -> None:
    """Dropout of a block's own, whose noise the caller draws, in place of PyTorch's from the global state."""
    layer.dropout = _dropout(length, wide, p)
    for name in [n for n, _ in layer.named_children() if n.startswith("dropout") and n != "dropout"]:
        setattr(layer, name, _dropout(length, width, p))
