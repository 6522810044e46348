"""The base class of attacks that prepare nothing and work on any model."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from privsweep.interface.data import Domain, ImageSet, Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, Observation
from privsweep.interface.roles import Bench, View


class AttackBase:
    """An attack that starts from what it sees; overrides what it is pickier about."""

    prepares_from: ClassVar[frozenset[str]] = frozenset()

    def refuses(self, view: View) -> str | None:
        return None

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        return None

    def victims_at_once(self, seen: Observation, known: Knowledge, device: torch.device) -> int | None:
        return None

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        return {}
