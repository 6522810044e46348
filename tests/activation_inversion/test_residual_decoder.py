"""The residual decoder: any features to images, from a start that is tame whatever the features."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from privsweep.activation_inversion.initial_values import standardise, start_at_mean
from privsweep.activation_inversion.residual_decoder import residual
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.residual import Residual

ODD = Domain((3, 37, 45), 10, (0.0,) * 3, (1.0,) * 3)
GREY = Domain((1, 28, 28), 10, (0.0,), (1.0,))


def made(features: tuple[int, ...], domain: Domain, blocks: int = 1) -> nn.Sequential:
    with seeded(Rng(0)):
        return residual(features, domain, width=4, blocks=blocks)


@pytest.mark.parametrize("domain", [ODD, GREY], ids=str)
@pytest.mark.parametrize(
    "features",
    [(4, 37, 45), (4, 28, 28), (5, 19, 23), (6, 9, 11), (6, 5, 9), (7, 2, 2), (7, 1, 1), (3, 50, 60), (20,), (6, 8)],
    ids=str,
)
def test_every_shape_of_features_has_its_decoder(features: tuple[int, ...], domain: Domain) -> None:
    z = torch.randn(2, *features, generator=torch.Generator().manual_seed(0))
    pixels = made(features, domain)(z)
    assert pixels.shape == (2, *domain.shape)
    assert pixels.min() >= 0
    assert pixels.max() <= 1


def test_it_doubles_until_the_image_has_its_size_and_narrows_on_the_way() -> None:
    layers = made((6, 5, 9), ODD, blocks=2)
    assert [tuple(m.size) for m in layers if isinstance(m, nn.Upsample)] == [(10, 15), (19, 26), (37, 45)]
    assert [m.out_channels for m in layers if isinstance(m, nn.Conv2d)] == [32, 16, 8, 4, 3]
    assert sum(isinstance(m, Residual) for m in layers) == 4 * 2


def test_a_dead_channel_is_not_blown_up() -> None:
    z = torch.randn(50, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    z[:, 1] = 5 + 1e-4 * z[:, 1]
    decoder = made((3, 4, 4), GREY)
    standardise(decoder, z)
    assert decoder[0](z)[:, 1].abs().max() < 0.01


def test_blocks_start_as_the_identity() -> None:
    x = torch.randn(2, 16, 14, 14, generator=torch.Generator().manual_seed(0))
    for block in [m for m in made((6, 7, 7), GREY) if isinstance(m, Residual)][1:2]:
        assert torch.equal(block(x[:, :8]), x[:, :8])


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize("features", [(6, 14, 14), (30,)], ids=str)
def test_it_begins_near_the_mean_image_however_large_the_features(features: tuple[int, ...], scale: float) -> None:
    z = scale * torch.randn(20, *features, generator=torch.Generator().manual_seed(0))
    decoder = made(features, GREY)
    standardise(decoder, z)
    inside = decoder[0](z)
    assert inside.mean().abs() < 0.01
    assert 0.9 < inside.std() < 1.1
    start_at_mean(decoder, z, torch.full((5, 1, 28, 28), 0.2))
    guess = decoder(z).detach()
    assert abs(guess.median() - 0.2) < 0.1
    assert 0.01 < guess.std() < 0.3
