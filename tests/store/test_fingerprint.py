"""What tells two things apart that an adversary prepares from, and what would not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.stack import Stack
from privsweep.interface.randomness import Rng, seeded
from privsweep.store.fingerprint import checksum_of


@dataclass(frozen=True)
class Query:
    part: nn.Module
    defense: Stack
    rng: Rng

    def __call__(self, x: Tensor) -> Tensor:
        return self.part(x)


def query(weights: int = 0, sigma: float = 0.1, seed: int = 0) -> Query:
    with seeded(Rng(weights)):
        part = nn.Linear(3, 2)
    return Query(part, Stack({"noise": NoisyGradients(sigma=sigma, distribution="gaussian")}), Rng(seed))


def test_a_query_is_told_apart_by_weights_defence_and_stream() -> None:
    assert checksum_of(query()) == checksum_of(query())
    others = [query(weights=1), query(sigma=0.2), query(seed=1)]
    assert len({checksum_of(q) for q in [query(), *others]}) == 4


@pytest.mark.parametrize("function", [torch.nn.functional.relu, partial(sum, ()), query().__call__])
def test_what_cannot_be_told_apart_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="frozen dataclass"):
        checksum_of(function)
