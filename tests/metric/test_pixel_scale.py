"""The papers' pixel scales."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.metric.images import ssim
from privsweep.metric.pixel_scale import SCALES, canonical, paper

CIFAR = Domain((3, 32, 32), 10, (0.491, 0.482, 0.447), (0.247, 0.244, 0.262))


def pair(noise=0.3):
    truth = torch.rand(4, 2, 3, 32, 32, generator=Rng(0).generator())
    return (truth + noise * Rng(1).normal(*truth.shape)).clamp(0, 1), truth


def test_zen_counts_pixels_to_255():
    guess, truth = pair()
    ours, theirs = canonical(guess, truth, CIFAR), paper("zen")(guess, truth, CIFAR)
    assert torch.equal(theirs["mse"], ours["mse"] * 255**2)
    by_range = 10 * torch.log10(255**2 / theirs["mse"])
    torch.testing.assert_close(theirs["psnr"], by_range)
    assert torch.equal(theirs["ssim"], ours["ssim"])


def test_precode_measures_normalised_images():
    guess, truth = pair()
    theirs = paper("precode")(guess, truth, CIFAR)
    g, t = (CIFAR.inputs(x)[1, 1].double().numpy() for x in (guess, truth))
    error = ((g - t) ** 2).mean()
    assert theirs["mse"][1, 1].item() == pytest.approx(error, rel=1e-6)
    assert theirs["psnr"][1, 1].item() == pytest.approx(10 * np.log10(np.ptp(t) ** 2 / error), abs=1e-5)
    similarity = structural_similarity(t, g, data_range=2.0, channel_axis=0)
    assert theirs["ssim"][1, 1].item() == pytest.approx(similarity, abs=1e-6)


def test_precode_shows_no_negative_similarity():
    texture = 0.2 * pair()[1]
    bright, dark = texture + 0.8, texture  # the same structure on opposite sides of the channels' means
    negative = ssim(CIFAR.inputs(dark), CIFAR.inputs(bright), data_range=2.0)
    assert negative.max() < 0
    assert paper("precode")(dark, bright, CIFAR)["ssim"].eq(0).all()


def test_precodes_mse_at_the_corners_of_the_box_is_the_papers():
    # PRECODE prints up to 5.29, far beyond what [0, 1] pixels allow
    _, truth = pair()
    corners = (Rng(2).normal(*truth.shape) > 0).float()
    assert 4.5 < paper("precode")(corners, truth, CIFAR)["mse"].mean() < 6


@pytest.mark.parametrize("name", SCALES)
@pytest.mark.parametrize("value", [0.0, 0.5])
def test_a_flat_original_stays_finite(name, value):
    guess, truth = pair()
    flat = torch.full_like(truth, value)
    for measures in (paper(name)(guess, flat, CIFAR), paper(name)(flat, flat, CIFAR)):
        assert all(values.isfinite().all() for values in measures.values())


def test_another_scale_is_refused():
    with pytest.raises(UserError, match=r"metrics\.paper_scale=dlg: .*zen, precode"):
        paper("dlg")
