"""Image metrics against scikit-image."""

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity

from privsweep.interface.randomness import Rng
from privsweep.metric.images import PSNR_CAP, asr, mse, psnr, ssim

SHAPES = [(1, 28, 28), (3, 32, 32), (1, 8, 8), (3, 7, 9)]


def pair(shape, victims=3, images=2, noise=0.1):
    truth = torch.rand(victims, images, *shape, generator=Rng(0).generator())
    guess = (truth + noise * Rng(1).normal(*truth.shape)).clamp(0, 1)
    return guess, truth


def by_hand(measure, guess, truth):
    guess, truth = guess.double().numpy(), truth.double().numpy()
    values = [measure(t, g) for g, t in zip(np.concatenate(guess), np.concatenate(truth), strict=True)]
    return np.reshape(values, guess.shape[:2])


@pytest.mark.parametrize("data_range", [1.0, 2.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_image_as_scikit_image_measures_it(shape, data_range):
    guess, truth = pair(shape)
    expected = {
        mse: by_hand(mean_squared_error, guess, truth),
        psnr: by_hand(lambda t, g: peak_signal_noise_ratio(t, g, data_range=data_range), guess, truth),
        ssim: by_hand(lambda t, g: structural_similarity(t, g, data_range=data_range, channel_axis=0), guess, truth),
    }
    assert mse(guess, truth).numpy() == pytest.approx(expected[mse], abs=1e-9)
    assert psnr(guess, truth, data_range).numpy() == pytest.approx(expected[psnr], abs=1e-6)
    assert ssim(guess, truth, data_range).numpy() == pytest.approx(expected[ssim], abs=1e-6)


def smooth(victims: int, side: int = 32):
    """Pictures of soft blobs, as photographs rather than noise."""
    coarse = torch.rand(victims, 3, 5, 5, generator=Rng(2).generator())
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").clamp(0, 1)[:, None]


@pytest.mark.parametrize("noise", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("kind", ["noise", "blobs"])
def test_torchmetrics_agrees_where_it_says_the_same(kind, noise):
    """Its PSNR to the precision of its logarithm; its SSIM inside the image, but for its biased variances."""
    from torchmetrics.functional.image import peak_signal_noise_ratio as their_psnr
    from torchmetrics.functional.image import structural_similarity_index_measure as their_ssim

    truth = smooth(8) if kind == "blobs" else pair((3, 32, 32), 8, 1)[1]
    guess = (truth + noise * Rng(1).normal(*truth.shape)).clamp(0, 1)
    ours, theirs = guess.flatten(0, 1).double(), truth.flatten(0, 1).double()
    each = {"data_range": 1.0, "reduction": "none"}
    assert psnr(guess, truth)[:, 0].numpy() == pytest.approx(their_psnr(ours, theirs, dim=(1, 2, 3), **each), abs=2e-6)
    uniform = {"gaussian_kernel": False, "kernel_size": 7, "return_full_image": True, **each}
    whole, windows = their_ssim(ours, theirs, **uniform)
    inside = windows[..., 3:-3, 3:-3].mean((1, 2, 3))
    found = ssim(guess, truth)[:, 0]
    assert (found - inside).abs().max() < 2e-3
    assert (found - whole).abs().max() < 0.15


@pytest.mark.parametrize(("side", "window"), [(6, 5), (4, 3), (3, 3)])
def test_images_below_the_window_take_the_largest_odd_one_that_fits(side, window):
    guess, truth = pair((3, side, side))
    settings = {"data_range": 1.0, "channel_axis": 0, "win_size": window}
    expected = by_hand(lambda t, g: structural_similarity(t, g, **settings), guess, truth)
    assert ssim(guess, truth).numpy() == pytest.approx(expected, abs=1e-6)


def test_a_perfect_image_scores_finite():
    _, truth = pair((3, 32, 32))
    assert mse(truth, truth).max() == 0
    assert (psnr(truth, truth) == PSNR_CAP).all()
    assert ssim(truth, truth).numpy() == pytest.approx(1)
    tiny = truth[..., :1, :1]
    assert ssim(tiny, tiny).numpy() == pytest.approx(1)


def test_many_images_score_as_each_alone():
    guess, truth = pair((1, 8, 8), victims=100, images=6)
    alone = torch.stack([ssim(g[None], t[None])[0] for g, t in zip(guess, truth, strict=True)])
    assert torch.equal(ssim(guess, truth), alone)


def test_success_is_counted_from_the_threshold_on():
    assert asr(torch.tensor([[0.6, 0.59], [0.9, 0.7]]), 0.6).tolist() == [0.5, 1.0]


def test_shapes_that_differ_are_not_broadcast():
    guess, truth = pair((1, 8, 8))
    with pytest.raises(ValueError, match="shape"):
        mse(guess[:, :1], truth)
