"""Data of no content, of which the matrix asks whether a run fits them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from privsweep.interface.data import Data, Domain, ImageSet, TextDomain, TokenSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.translation import SPECIAL, TranslationDomain, Vocabulary
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_attack, check_seen, reads_sentences

T = TypeVar("T")


class Asked:
    """Whether runs go with some data. What no attack changes is asked once, since it builds and tries networks."""

    def __init__(self, data: Data[Any, Any]):
        self.data = data
        self._seen: dict[tuple[Any, ...], nn.Module | str] = {}  # the defended model, or why it is refused

    def unfit(self, spec: RunSpec) -> str | None:
        """Why a run does not go with the data, in the first line of its refusal, or None."""
        setting: Any = spec.fl_setting
        if isinstance(self.data.train, TokenSet) and hasattr(setting, "augment"):
            setting = dataclasses.replace(setting, augment="none")  # sentences are neither flipped nor cropped
            spec = dataclasses.replace(spec, fl_setting=setting)
        key = (spec.choices["model"], repr(spec.fl_setting), repr(spec.view), reads_sentences(spec))
        if (seen := self._seen.get(key)) is None:
            seen = self._seen[key] = _or_refusal(lambda: check_seen(spec, self.data, Rng(0)))
        if isinstance(seen, str):
            return seen
        prior = self.data.prior if spec.has_prior else None
        return _or_refusal(lambda: check_attack(spec, seen, self.data, prior, Rng(0)))


def _or_refusal(check: Callable[[], T]) -> T | str:
    try:
        return check()
    except UserError as error:
        return str(error).splitlines()[0]


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
