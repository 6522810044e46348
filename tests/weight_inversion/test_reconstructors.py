"""The networks of the informed adversary are those of the paper's tables IV, VI and VII."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.weight_inversion.patch_gan import SMALLEST, judged, patch_gan
from privsweep.weight_inversion.reconstructors import mlp, transposed


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_the_networks_have_the_papers_parameters() -> None:
    with torch.device("meta"):
        assert parameters(mlp(7960, (1, 28, 28), 1000, 2)) == 9_746_784
        assert parameters(transposed(55_208, (3, 32, 32), 64)) == 226_189_699
        assert parameters(patch_gan(3, 64)) == 2_764_737
        assert [tuple(layer.weight.shape) for layer in patch_gan(3, 64) if isinstance(layer, nn.Conv2d)] == [
            (64, 3, 4, 4), (128, 64, 4, 4), (256, 128, 4, 4), (512, 256, 4, 4), (1, 512, 4, 4),
        ]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 12)])
def test_images_come_in_their_shape_and_between_zero_and_one(shape: tuple[int, int, int]) -> None:
    for net in (mlp(20, shape, 16, 3), transposed(20, shape, 5)):
        images = net(10 * Rng(0).normal(4, 20))
        assert images.shape == (4, *shape)
        assert ((images >= 0) & (images <= 1)).all()


def test_sides_that_cannot_be_doubled_twice_are_refused() -> None:
    with pytest.raises(UserError, match=r"30x28 pixels .*; take attack\.reconstructor=mlp, or dataset\.resize=28"):
        transposed(20, (1, 30, 28), 4)


def test_initial_values_are_normal_cut_off_at_two_deviations() -> None:
    with seeded(Rng(0)):
        first = mlp(400, (1, 4, 4), 500, 1)[0]
    scaled = first.weight * 20
    assert scaled.abs().max() <= 2
    assert scaled.std().item() == pytest.approx(0.8796, abs=0.01)
    assert not first.bias.any()


def test_the_discriminator_judges_patches_of_images_large_enough() -> None:
    net = patch_gan(1, 8)
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 1, 2, 2)
    assert net(torch.zeros(2, 1, SMALLEST, SMALLEST)).shape == (2, 1, 1, 1)
    with pytest.raises(RuntimeError, match="size"):
        net(torch.zeros(2, 1, SMALLEST - 1, SMALLEST - 1))


def test_a_verdict_costs_what_it_lacks_in_certainty() -> None:
    sure = torch.full((1, 1, 2, 2), 20.0)
    assert judged(sure, True) < 1e-6
    assert judged(sure, False).item() == pytest.approx(20)
