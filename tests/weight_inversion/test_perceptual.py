"""Distances of images in the features of a network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from informed_world import DOMAIN, pictures
from torchvision.models import AlexNet_Weights, alexnet

from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.weight_inversion.perceptual import _between_units, distance, unfit

LARGE = Domain((1, 32, 32), 3, (0.0,), (1.0,))


def test_vectors_are_compared_at_unit_length() -> None:
    a, b = Rng(0).normal(2, 5, 3, 3).double(), Rng(1).normal(2, 5, 3, 3).double()
    a[0, :, 0, 0] = 0  # has no direction
    unit = [t / t.norm(dim=1, keepdim=True).clamp(min=1e-5) for t in (a, b)]
    torch.testing.assert_close(_between_units(a, b), (unit[0] - unit[1]).square().sum(1))
    assert not _between_units(a, 3 * a).abs().gt(1e-9).any()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where torchvision looks for weights."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_features_of_a_classifier_tell_images_apart() -> None:
    own = pictures(100, "own")
    far = distance("features", own, DOMAIN, Rng(0))
    pixels = own.pixels()
    assert far(pixels[:50], pixels[:50]) == 0
    near, other = (pixels[:50] + 0.01).requires_grad_(), pixels[50:]
    assert far(near, pixels[:50]) < far(other, pixels[:50])
    [gradient] = torch.autograd.grad(far(near, pixels[:50]), near)
    assert gradient.abs().sum() > 0
    assert distance("none", own, DOMAIN, Rng(0))(other, pixels[:50]) == 0


def test_lpips_is_not_fetched(hub: Path) -> None:
    reason = unfit("lpips", LARGE)
    assert reason is not None
    assert reason.endswith("put it there, or take attack.perceptual=features")
    assert str(hub) in reason
    with pytest.raises(UserError, match=r"attack\.perceptual=lpips"):
        distance("lpips", pictures(2, "own", side=32), LARGE, Rng(0))
    assert list(hub.iterdir()) == []


@pytest.mark.parametrize("side", [31, 32])
def test_lpips_takes_the_network_that_is_at_hand(side: int, hub: Path) -> None:
    with torch.device("meta"):
        shapes = alexnet().state_dict()
    weights = {
        # the large ones belong to layers that LPIPS leaves out
        name: Rng(0).child(name).normal(*w.shape) * 0.05 if w.numel() < 10**6 else torch.zeros(()).expand(w.shape)
        for name, w in shapes.items()
    }
    torch.save(weights, hub / AlexNet_Weights.IMAGENET1K_V1.url.rpartition("/")[2])
    own = pictures(8, "own", side=side)
    domain = Domain((1, side, side), 3, (0.0,), (1.0,))
    assert unfit("lpips", domain) is None
    far = distance("lpips", own, domain, Rng(0))
    pixels = own.pixels()
    assert far(pixels, pixels) == 0
    assert far(pixels[:4], pixels[4:]) > 0
