"""What attacks share that prepare nothing and work on any model."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from privsweep.game import Bench, Domain, Knowledge, Setting, Split, Tensors
from privsweep.randomness import Rng


class Immediate:
    """An attack that starts from what it sees; overrides what it is pickier about."""

    prepares_from: ClassVar[frozenset[str]] = frozenset()
    unprepared: ClassVar[frozenset[str]] = frozenset()

    def refuses(self, setting: Setting) -> str | None:
        return None

    def fits(self, model: nn.Sequential, domain: Domain, public: Split | None) -> str | None:
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        return {}
