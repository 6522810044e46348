"""A Gaussian of images: what it is fitted to, and what it tells of a gradient under noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import Bench, capture, digits_of, fedavg

from privsweep.attack.gradient_matching import GradientMatching
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.stack import Stack
from privsweep.gradient_inversion.image_prior import ImagePrior
from privsweep.interface.data import Data, Domain, ImageSet
from privsweep.interface.randomness import Rng
from privsweep.metric.score import score
from privsweep.model.mlp import MLP
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

DOMAIN = Domain((1, 4, 4), 2, (0.5,), (0.25,))
SMLP = MLP(width=64, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5)


def images(count: int, directions: int) -> ImageSet:
    """Grey images that vary in so many directions, and a little in all others."""
    draw = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, directions, generator=draw))[0]
    varied = 60 * torch.randn(count, directions, generator=draw) @ basis.mT
    pixels = 128 + varied + 4 * torch.randn(count, 16, generator=draw)
    return ImageSet(pixels.clamp(0, 255).round().byte().view(-1, 1, 4, 4), torch.zeros(count, dtype=torch.int64))


def iga(**changes: Any) -> GradientMatching:
    with searching(None):
        attack = build(compose(["attack=iga", "fl_setting.labels_known=true"])).attack
    assert isinstance(attack, GradientMatching)
    return replace(attack, **changes)


@pytest.mark.parametrize("directions", [2, 4, 8])
def test_as_many_directions_as_the_images_have(directions: int) -> None:
    prior = ImagePrior.fitted(DOMAIN, images(2000, directions), Rng(0))
    assert len(prior.variances) == directions
    assert prior.rest.sqrt().item() == pytest.approx(4 / 255 / 0.25, rel=0.2)


def test_the_most_probable_image_is_the_mean_of_the_posterior() -> None:
    prior = ImagePrior.fitted(DOMAIN, images(300, 4), Rng(0))
    covariance = ((prior.directions.mT * (prior.variances - prior.rest)) @ prior.directions).double()
    covariance += prior.rest * torch.eye(16)
    seen, noise = torch.randn(3, 16), torch.tensor([0.0, 0.2, 1e6])
    found = prior.most_probable(seen, noise)
    for x, s, expected in zip(seen.double(), noise, found.double(), strict=True):
        gain = covariance @ torch.linalg.inv(covariance + s * torch.eye(16))
        torch.testing.assert_close(expected, prior.mean + gain @ (x - prior.mean), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[0], seen[0])
    torch.testing.assert_close(found[2], prior.mean, rtol=1e-3, atol=1e-3)


def test_the_penalty_is_the_distance_of_mahalanobis_and_its_derivative() -> None:
    own = images(300, 4)
    prior = replace(ImagePrior.fitted(DOMAIN, own, Rng(0)), weight=0.5)
    parts = [(prior.directions.mT * (prior.variances - prior.rest)) @ prior.directions, prior.rest * torch.eye(16)]
    precision = torch.linalg.inv(sum(parts).double())
    x = torch.randn(3, 2, 1, 4, 4, requires_grad=True)
    away = (x.flatten(2) - prior.mean).double()
    expected = 0.5 * (away * (away @ precision)).sum((1, 2))
    expected.sum().backward()
    gradient = torch.ones_like(x)
    torch.testing.assert_close(prior.add_penalty(x.detach(), gradient), expected.detach().float(), rtol=1e-3, atol=1e-3)
    assert x.grad is not None
    torch.testing.assert_close(gradient - 1, x.grad, rtol=1e-3, atol=1e-3)


def test_images_that_are_all_alike_leave_finite_penalties() -> None:
    same = ImageSet(torch.full((30, 1, 4, 4), 7, dtype=torch.uint8), torch.zeros(30, dtype=torch.int64))
    prior = ImagePrior.fitted(DOMAIN, same, Rng(0))
    gradient = torch.zeros(1, 1, 1, 4, 4)
    assert prior.add_penalty(torch.rand(1, 1, 1, 4, 4), gradient).isfinite().all()
    assert gradient.isfinite().all()


def test_it_sees_through_noise_that_hides_images_from_others() -> None:
    digits = digits_of(train_size=100, test_size=20, prior_size=600)
    data: Data = digits.load(Rng(0))
    noisy = Stack({"noisy_gradients": NoisyGradients(sigma=0.1, distribution="gaussian")})
    setting = fedavg(rounds=0, victims=10, labels_known=True, capture=capture())
    system = setting.train(data, SMLP, noisy, Rng(0), Bench())
    out = setting.views()[0].expose(system, data, SMLP, noisy, Rng(0))
    errors = {}
    known = out.known.having(prior=data.prior)
    for name, settings in {
        "plain": {},
        "smooth": {"tv_weight": 0.01},
        "prior": {"distance": "squared", "prior_weight": 0.1**2},
    }.items():
        attack = iga(iterations=400, lr=0.05, **settings)
        prepared = attack.prepare(known.only(attack.prepares_from), Bench(), Rng(0)) if attack.prepares_from else {}
        found = attack(out.seen, known.only(attack.needs), prepared, Bench(), Rng(0))
        errors[name] = score(found, out.truth, data.domain, None, 0.6).metrics["mse"]
    assert errors["prior"] < 0.5 * min(errors["plain"], errors["smooth"])


def test_images_of_ones_own_are_asked_for() -> None:
    attack = iga(prior_weight=0.5)
    few = images(19, 2)
    for own in (None, few):
        reason = attack.fits(torch.nn.Linear(1, 1), DOMAIN, own)
        assert reason is not None
        assert reason.startswith("attack.prior_weight=0.5: is that of a Gaussian of 20 images at least")
        assert reason.endswith("dataset.prior_size=2000")
    assert "prior" in attack.needs
    assert "prior" not in iga().needs
