"""What tells two things apart that an adversary prepares from, and what would not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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


@dataclass(frozen=True)
class Several:
    parts: Sequence[object]


@pytest.mark.parametrize("kind", [list, tuple])
def test_what_stands_in_a_sequence_counts_with_all_of_it(kind: Callable[[Sequence[object]], Sequence[object]]) -> None:
    """A print of large tensors is shortened, and that of some objects shows an address."""
    one, other = torch.zeros(10_000), torch.zeros(10_000)
    other[5_000] = 1
    sums = [checksum_of(Several(kind([given]))) for given in (one, one.clone(), other, [other], [one, other])]
    assert sums[0] == sums[1]
    assert len(set(sums)) == 4
    assert checksum_of(kind([query(), query(weights=1)])) == checksum_of(kind([query(), query(weights=1)]))
    with pytest.raises(TypeError, match="frozen dataclass"):
        checksum_of(kind([query().__call__]))


def test_a_sequence_of_numbers_has_the_checksum_that_stored_preparations_have() -> None:
    assert checksum_of(Several((1, 2.5, "a", None, (True,)))) == "b4d1c3d64426"


@pytest.mark.parametrize("function", [torch.nn.functional.relu, partial(sum, ()), query().__call__])
def test_what_cannot_be_told_apart_is_refused(function: Callable[..., object]) -> None:
    with pytest.raises(TypeError, match="frozen dataclass"):
        checksum_of(function)
