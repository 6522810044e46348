"""A decoder of embedded sentences: the features of every token back to its word.

Axes: ``B`` sequences, ``Ls`` places of the source, ``F`` features a place, ``K`` words.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from privsweep.interface.translation import PADDING, TranslationDomain

_AT_ONCE = 200  # sequences whose words are scored together


class TokenDecoder(nn.Module):
    """A dense layer to ``width``, a transformer encoder over the sentence, and scores of all words at every place.

    Reads what an embedding hands on, ``[B, L, F]``, whose last column marks padding; of it the places of the source.
    Gives ``[B, K, Ls]``.
    """

    def __init__(self, features: int, domain: TranslationDomain, width: int, heads: int, layers: int):
        super().__init__()
        self.source_length = domain.source_length
        self.inward = nn.Linear(features, width)
        block = nn.TransformerEncoderLayer(width, heads, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.words = nn.Linear(width, len(domain.source))

    def forward(self, z: Tensor) -> Tensor:
        z = z[:, : self.source_length]
        hidden = self.encoder(self.inward(z), src_key_padding_mask=z[..., -1] > 0.5)
        scores: Tensor = self.words(hidden)
        return scores.mT


@torch.no_grad()
def transcribed(decoder: TokenDecoder, z: Tensor) -> Tensor:
    """The likeliest word at every place, int64 ``[n, Ls]``, of features ``[n, L, F]``; padding where it is marked."""
    words = torch.cat([decoder(part).argmax(1) for part in z.split(_AT_ONCE)])
    return torch.where(z[:, : decoder.source_length, -1] > 0.5, PADDING, words)
