"""Data of no content, of which the matrix asks whether a run fits them."""

from __future__ import annotations

import torch

from privsweep.interface.data import Data, Domain, ImageSet, TextDomain, TokenSet
from privsweep.interface.translation import SPECIAL, TranslationDomain, Vocabulary


def images() -> Data:
    rng = torch.Generator().manual_seed(0)

    def draw(count: int) -> ImageSet:
        pixels = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=rng)
        return ImageSet(pixels, torch.arange(count) % 10)

    return Data("images", draw(2000), draw(1000), Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3), prior=draw(2000))


def sentences() -> Data[TokenSet, TextDomain]:
    def draw(count: int) -> TokenSet:
        return TokenSet(torch.full((count, 15), 4), torch.full((count, 7), 4))

    words = Vocabulary((*SPECIAL, *map(str, range(46))))
    domain = TranslationDomain(length=15, vocabulary=50, classes=50, source=words, target=words, source_length=8)
    return Data("sentences", draw(200), draw(100), domain, prior=draw(200), validation=draw(50))
