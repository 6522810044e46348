"""Rows that change in a few places."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from privsweep.gradient_inversion import staircase
from privsweep.gradient_inversion.staircase import largest_steps
from privsweep.interface.randomness import Rng

UNITS, SIZE = 24, 5
PLACES = torch.tensor([[2, 9, 10, 24], [1, 13, 20, 23]])


def rows_of(steps: Tensor, places: Tensor, units: int = UNITS) -> Tensor:
    """Every step is on all rows before its place."""
    before = torch.arange(units) < places[:, :, None]
    return before.to(steps).mT @ steps


@pytest.mark.parametrize("at_once", [1, 2**22])
def test_steps_are_found_where_they_are(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(staircase, "_AT_ONCE", at_once)
    steps = Rng(0).normal(2, 4, SIZE)
    places, found = largest_steps(rows_of(steps, PLACES), 4)
    assert torch.equal(places, PLACES)
    torch.testing.assert_close(found, steps, rtol=0, atol=1e-6)


def test_what_leaves_the_least_squares_is_what_trying_all_finds() -> None:
    rows = Rng(1).normal(1, 9, SIZE).double()

    def left(places: tuple[int, ...]) -> float:
        parts = zip((0, *places), places, strict=False)
        within = sum(float((rows[0, a:b] - rows[0, a:b].mean(0)).square().sum()) for a, b in parts)
        return within + float(rows[0, places[-1] :].square().sum())

    best = min(combinations(range(1, 10), 3), key=left)
    places, _ = largest_steps(rows, 3)
    assert tuple(places[0].tolist()) == best


def test_noise_averages_out_over_rows_that_are_alike() -> None:
    places = torch.tensor([[100, 200, 300]])
    steps = Rng(2).normal(1, 3, 50)
    noise = 0.5 * Rng(3).normal(1, 300, 50)
    found, change = largest_steps(rows_of(steps, places, 300) + noise, 3)
    assert torch.equal(found, places)
    # The means of two stretches of a hundred rows: a hundredth of the variance each.
    expected = 0.25 * torch.tensor([2.0, 2.0, 1.0]) / 100
    assert ((change - steps).square().mean(2)[0] / expected).sub(1).abs().max() < 0.5


def test_where_fewer_rows_change_the_other_steps_are_nothing() -> None:
    steps = Rng(4).normal(1, 2, SIZE)
    _, found = largest_steps(rows_of(steps, torch.tensor([[5, 11]])), 6)
    assert (found[0].abs().amax(1) > 1e-5).sum() == 2
