"""Two groups that differ where all vary little, among directions in which all vary much."""

import torch
from torch import Tensor

from privsweep.interface.randomness import Rng
from privsweep.membership_inference.discriminant import Direction, discriminant

ONE, OTHER = torch.arange(300) < 60, (torch.arange(300) >= 60) & (torch.arange(300) < 160)


def drawn(count: int, shifted: Tensor, seed: int) -> Tensor:
    """Of 40 numbers the first varies 30 times as much as the others; those that are shifted are so in the second."""
    found = torch.randn(count, 40, generator=Rng(seed).generator(), dtype=torch.float64)
    found[:, 0] *= 30
    found[:, 1] += 3.0 * shifted
    return found


def direction(gradients: Tensor, noise: float) -> tuple[Direction, Tensor]:
    told = discriminant(gradients @ gradients.T, ONE, OTHER, torch.tensor([noise], dtype=torch.float64), Rng(0))
    return told, told.weights[0] @ gradients


def test_it_turns_away_from_what_varies_anyway_and_its_scale_is_of_others() -> None:
    gradients = drawn(300, ONE, 0)
    told, along = direction(gradients, 0.0)
    assert along[1].abs() / along.norm() > 0.9
    assert along[0].abs() / along.norm() < 0.05
    there, not_there = drawn(4000, torch.ones(4000), 1) @ along, drawn(4000, torch.zeros(4000), 2) @ along
    assert 0.85 < float(told.spread[0] / not_there.std()) < 1.15
    apart = float(there.mean() - not_there.mean())
    assert abs(float(told.level[0] - not_there.mean())) < 0.1 * apart
    assert abs(float(told.middle[0]) - apart / 2) < 0.1 * apart


def test_noise_widens_the_spread() -> None:
    gradients = drawn(300, ONE, 0)
    (quiet, along), (loud, other) = direction(gradients, 0.0), direction(gradients, 4.0)
    assert float(loud.spread[0] / other.norm()) > 1.8 * float(quiet.spread[0] / along.norm())
