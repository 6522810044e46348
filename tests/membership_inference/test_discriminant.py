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
    added = torch.tensor([noise], dtype=torch.float64)
    told = discriminant(gradients @ gradients.T, ONE, OTHER, added, 8, 4, Rng(0))
    return told, told.weights[0] @ gradients


def updates(shifted: int, seed: int) -> Tensor:
    """Means of eight, of which so many are shifted."""
    among = (torch.arange(8) < shifted).repeat(500)
    return drawn(4000, among, seed).view(500, 8, 40).mean(1)


def test_it_turns_away_from_what_varies_anyway_and_its_scale_is_of_others() -> None:
    told, along = direction(drawn(300, ONE, 0), 0.0)
    assert along[1].abs() / along.norm() > 0.9
    assert along[0].abs() / along.norm() < 0.05
    there, not_there = updates(4, 1) @ along, updates(0, 2) @ along
    assert 0.8 < float(told.spread[0] / not_there.std()) < 1.2
    apart = float(there.mean() - not_there.mean())
    assert abs(float(told.middle[0] - (there.mean() + not_there.mean()) / 2)) < 0.15 * apart


def test_noise_widens_the_spread() -> None:
    gradients = drawn(300, ONE, 0)
    (quiet, along), (loud, other) = direction(gradients, 0.0), direction(gradients, 0.5)
    assert float(loud.spread[0] / other.norm()) > 1.8 * float(quiet.spread[0] / along.norm())


def test_a_few_long_gradients_do_not_decide() -> None:
    """Once a network has learnt, most have next to none."""
    gradients = drawn(300, ONE, 0)
    gradients[::15] = 100 * torch.randn(20, 40, generator=Rng(3).generator(), dtype=torch.float64)
    _, along = direction(gradients, 0.0)
    assert along[1].abs() / along.norm() > 0.7
