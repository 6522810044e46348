from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from privsweep.dataset.pixels import CHUNK, recolour, resized, statistics


@pytest.fixture
def colour():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 12, 10), dtype=np.uint8))


def pillow(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy())


def test_grey_is_pillows_grey_to_one_step(colour):
    grey = recolour(colour, "grey")
    assert (grey.shape, grey.dtype) == ((3, 1, 12, 10), torch.uint8)
    for ours, image in zip(grey, colour, strict=True):
        theirs = np.asarray(pillow(image).convert("L")).astype(int)
        assert np.abs(ours[0].numpy() - theirs).max() <= 1


def test_colour_of_grey_repeats_it(colour):
    grey = colour[:, :1]
    rgb = recolour(grey, "rgb")
    assert rgb.shape == (3, 3, 12, 10)
    assert all(torch.equal(rgb[:, c], grey[:, 0]) for c in range(3))


@pytest.mark.parametrize(("channels", "wanted"), [("same", 3), ("rgb", 3), ("grey", 1)])
def test_channels(colour, channels, wanted):
    assert recolour(colour, channels).shape[1] == wanted
    assert recolour(colour[:, :1], "same").shape[1] == 1


@pytest.mark.parametrize("side", [5, 8, 25])
def test_resizing_is_pillows_bilinear_to_one_step(colour, side):
    ours = resized(colour, side)
    assert (ours.shape, ours.dtype) == ((3, 3, side, side), torch.uint8)
    for got, image in zip(ours, colour, strict=True):
        theirs = np.asarray(pillow(image).resize((side, side), Image.Resampling.BILINEAR)).astype(int)
        assert np.abs(got.permute(1, 2, 0).numpy() - theirs).max() <= 1


def test_a_flat_image_stays_flat_and_a_right_size_stays_put(colour):
    assert (resized(torch.full((1, 1, 9, 9), 255, dtype=torch.uint8), 4) == 255).all()
    square = colour[..., :10, :]
    assert resized(square, 10) is square
    assert resized(square, None) is square


def test_more_images_than_a_chunk_give_the_same():
    many = torch.arange(CHUNK + 3).remainder(256).byte().view(-1, 1, 1, 1).expand(-1, 3, 4, 4)
    assert torch.equal(resized(many, 2), many[..., :2, :2])
    assert torch.equal(recolour(many, "grey"), many[:, :1])


def test_statistics_are_numpys(colour):
    mean, std = statistics(colour)
    pixels = colour.numpy() / 255
    np.testing.assert_allclose(mean, pixels.mean((0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.std((0, 2, 3)), rtol=1e-12)


def test_a_flat_channel_divides_by_one():
    assert statistics(torch.full((2, 1, 3, 3), 51, dtype=torch.uint8)) == ((pytest.approx(0.2),), (1.0,))
