"""Weights as rows on a common scale."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from privsweep.interface.randomness import Rng
from privsweep.weight_inversion import standardisation
from privsweep.weight_inversion.shadow_weights import flatten
from privsweep.weight_inversion.standardisation import fit_standardisation

CPU = torch.device("cpu")


def test_weights_are_flattened_in_one_order_however_they_are_listed() -> None:
    weights = {"b": torch.arange(2.0)[:, None], "a": torch.arange(8.0).view(2, 2, 2), "count": torch.zeros(2).long()}
    rows = flatten(weights)
    assert rows.tolist() == [[0, 1, 2, 3, 0], [4, 5, 6, 7, 1]]
    assert torch.equal(flatten(dict(reversed(weights.items()))), rows)


@pytest.mark.parametrize("numbers", [2**24, 21])
def test_rows_are_standardised_as_scikit_learn_does_it(numbers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read at once; also where they vary by a ten-thousandth of their size."""
    monkeypatch.setattr(standardisation, "_NUMBERS", numbers)
    rows = Rng(0).normal(50, 7) * torch.logspace(-4, 2, 7) + torch.linspace(-2, 2, 7)
    standardise, usable = fit_standardisation(rows, CPU, math.inf)
    expected = StandardScaler().fit_transform(rows.double().numpy())
    assert usable.all()
    assert np.allclose(standardise(rows).numpy(), expected, atol=3e-3)


def test_what_never_varies_becomes_zero_and_what_is_no_number_is_skipped() -> None:
    rows = Rng(0).normal(20, 3)
    rows[:, 1] = 0.1
    spoilt = rows.clone()
    spoilt[0, 2], spoilt[7, 0] = torch.inf, torch.nan
    standardise, usable = fit_standardisation(spoilt, CPU, math.inf)
    assert (~usable).nonzero().flatten().tolist() == [0, 7]
    alone, _ = fit_standardisation(rows[usable], CPU, math.inf)
    assert torch.equal(standardise(rows), alone(rows))
    assert not standardise(rows)[:, 1].any()
    assert standardise(rows + 5)[:, 1].tolist() == [0] * 20
    assert not fit_standardisation(spoilt[:1], CPU, math.inf)[1].any()


def test_a_moved_standardisation_maps_moved_weights_alike() -> None:
    rows = Rng(0).normal(20, 3)
    standardise, _ = fit_standardisation(rows, CPU, math.inf)
    by = torch.tensor([1.0, -2.0, 0.5])
    assert torch.allclose(standardise.moved(by)(rows + by), standardise(rows), atol=1e-5)


def test_a_coordinate_is_cut_off_at_the_limit() -> None:
    rows = Rng(0).normal(20, 3)
    free, cut = (fit_standardisation(rows, CPU, limit)[0](10 * rows) for limit in (math.inf, 2.0))
    assert free.abs().max() > 2
    assert torch.equal(cut, free.clamp(-2, 2))
