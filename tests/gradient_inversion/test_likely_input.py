"""How much of a singular vector is noise."""

from __future__ import annotations

import pytest
import torch

from privsweep.gradient_inversion.likely_input import _spike
from privsweep.gradient_inversion.rank_one import nearest_rank_one

ROWS, COLUMNS = 60, 300


@pytest.mark.parametrize("strength", [1.5, 2.0, 4.0])  # times what is just told from noise
def test_a_product_and_the_angle_that_noise_turns_it_by_are_told_by_its_size(strength: float) -> None:
    draw = torch.Generator().manual_seed(0)
    left, right = (torch.randn(40, n, generator=draw) for n in (ROWS, COLUMNS))
    left, right = (torch.nn.functional.normalize(side, dim=1) for side in (left, right))
    size = strength * (ROWS * COLUMNS) ** 0.25
    product = size * left[:, :, None] * right[:, None]
    found = nearest_rank_one(product + torch.randn(product.shape, generator=draw), size * left)
    signal, cosine = _spike(found, ROWS, COLUMNS)
    assert signal.mean().item() == pytest.approx(size, rel=0.05)
    true = torch.cosine_similarity(found.inputs, right, dim=1).abs()
    assert cosine.mean().item() == pytest.approx(true.mean().item(), abs=0.03)


def test_nothing_is_told_of_noise_alone_and_all_without_noise() -> None:
    draw = torch.Generator().manual_seed(0)
    noise = nearest_rank_one(torch.randn(20, ROWS, COLUMNS, generator=draw), torch.randn(20, ROWS, generator=draw))
    assert _spike(noise, ROWS, COLUMNS)[1].mean() < 0.35
    clean = nearest_rank_one(torch.ones(1, ROWS, COLUMNS), torch.ones(1, ROWS))
    signal, cosine = _spike(clean, ROWS, COLUMNS)
    assert signal.item() == pytest.approx((ROWS * COLUMNS) ** 0.5, rel=1e-5)
    assert cosine.item() == pytest.approx(1, abs=1e-6)
