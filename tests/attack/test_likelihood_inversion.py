"""Regularised maximum likelihood inversion: a client's part that loses nothing is inverted."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import Bench
from torch import Tensor, nn

from privsweep.attack.likelihood_inversion import LikelihoodInversion
from privsweep.exposure.activations import forwarded
from privsweep.interface.data import Domain, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import Activations, Knowledge
from privsweep.model.dropout import Dropout
from privsweep.model.perturbation import FeatureDropout, FixedNoise, NoiseCollection

DOMAIN = Domain((2, 8, 8), 10, (0.4, 0.5), (0.2, 0.3))
PIXELS = torch.rand(4, 1, 2, 8, 8, generator=torch.Generator().manual_seed(0))


def attack(**changes: object) -> LikelihoodInversion:
    values = {
        "iterations": 300, "tv_weights": [0.0], "lrs": [0.05], "decay": True, "init": "grey", "clamp_pixels": True,
        "restarts": 1,
    }  # fmt: skip
    return LikelihoodInversion(**{**values, **changes})


def head(*more: nn.Module) -> nn.Sequential:
    with seeded(Rng(1)):
        return nn.Sequential(nn.Conv2d(2, 12, 3, padding=1), nn.ReLU(), *more).eval()


def sent(part: nn.Module, pixels: Tensor) -> Tensor:
    """By every victim for itself."""
    with torch.no_grad():
        return torch.stack([part(DOMAIN.inputs(own)) for own in pixels])


def seen(z: Tensor, examples: int = 1) -> Activations:
    return Activations(z=z, cut="conv1", weights=None, examples=examples)


def inverted(z: Tensor, part: nn.Module, examples: int = 1, **changes: object) -> Reconstruction:
    known = Knowledge(model=part, domain=DOMAIN)
    guess = attack(**changes)(seen(z, examples), known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    return guess


def test_images_before_one_convolution_come_back() -> None:
    part = head()
    guess = inverted(sent(part, PIXELS), part)
    assert (DOMAIN.pixels(guess.images) - PIXELS).abs().max() < 0.01
    assert guess.diagnostics["objective"].max() < 1e-5
    assert guess.curve["objective"].shape == (4, len(guess.curve["iteration"]))
    assert (guess.curve["objective"][:, -1] < 1e-3 * guess.curve["objective"][:, 0]).all()
    assert not guess.diverged.any()


def test_victims_are_independent_also_where_a_batch_is_normalised() -> None:
    part = head(nn.BatchNorm2d(12)).train()
    before = {name: b.clone() for name, b in part.named_buffers()}
    pixels = PIXELS.view(2, 2, 2, 8, 8)
    z = sent(part, pixels)
    part.load_state_dict({**part.state_dict(), **before})
    both, alone = (inverted(z[:n], part, 2, iterations=60).images for n in (2, 1))
    assert torch.allclose(both[:1], alone, atol=1e-4)
    assert (DOMAIN.pixels(both) - pixels).square().mean() < 0.25 * PIXELS.var()
    assert all(torch.equal(b, before[name]) for name, b in part.named_buffers())


def test_of_a_mean_it_finds_images_with_that_mean() -> None:
    part = head()
    z = sent(part, PIXELS.view(2, 2, 2, 8, 8)).mean(1, keepdim=True)
    guess = inverted(z, part, 2, init="uniform")
    assert guess.images.shape == (2, 2, 2, 8, 8)
    assert guess.diagnostics["objective"].max() < 0.02
    alike = inverted(z, part, 2)
    assert torch.allclose(alike.images[:, 0], alike.images[:, 1], atol=1e-4)


def test_noise_is_taken_for_none() -> None:
    part = head(Dropout((12, 8, 8), 0.5))
    guess = inverted(sent(part, PIXELS), part.train())
    assert (DOMAIN.pixels(guess.images) - PIXELS).abs().max() < 0.01


def sent_with(layer: nn.Module, part: nn.Module, pixels: Tensor) -> Tensor:
    """Each victim's, with draws of its own from ``layer`` behind ``part``."""
    whole = nn.Sequential(part, layer)
    each = [forwarded(whole, DOMAIN.inputs(own), Rng(0).child(v)) for v, own in enumerate(pixels)]
    return torch.stack(each)


@pytest.mark.parametrize("noisy", [False, True])
def test_dropout_does_not_pass_for_zeros_of_the_network(noisy: bool) -> None:
    """It was taken for the network's own zeros, and half of an image's brightness went with it."""
    part, layer = head(), FeatureDropout((12, 8, 8), 0.5)
    noise = FixedNoise(0.1 * torch.randn(12, 8, 8, generator=torch.Generator().manual_seed(0)))
    behind = [noise] if noisy else []
    z = sent_with(nn.Sequential(layer, *behind), part, PIXELS)
    knowing, unknowing = (
        inverted(z, nn.Sequential(*part, *more, *behind), tv_weights=[0.01]) for more in ([layer], [])
    )
    errors = [(DOMAIN.pixels(guess.images) - PIXELS).square().mean() for guess in (knowing, unknowing)]
    assert errors[0] < 0.005
    assert errors[1] > 5 * errors[0]


@pytest.mark.parametrize("multiplied", [False, True])
def test_each_of_a_few_noises_is_tried(multiplied: bool) -> None:
    """The attack knows them, and took what it saw for unperturbed."""
    part, generator = head(), torch.Generator().manual_seed(0)
    noises = torch.randn(3, 12, 8, 8, generator=generator)
    layer = NoiseCollection(noises, 1 + torch.rand(3, 12, 8, 8, generator=generator) if multiplied else None)
    z = sent_with(layer, part, PIXELS)
    guess = inverted(z, nn.Sequential(*part, layer).eval())
    assert (DOMAIN.pixels(guess.images) - PIXELS).abs().max() < 0.02
    assert (guess.diagnostics["evaluations"] == 3 * inverted(z, part).diagnostics["evaluations"]).all()
    tried = inverted(z, nn.Sequential(*part, layer).eval(), init="uniform", restarts=2)
    assert (DOMAIN.pixels(tried.images) - PIXELS).abs().max() < 0.02


def test_the_weight_of_the_total_variation_makes_images_smooth() -> None:
    part = head()
    z = sent(part, PIXELS)
    plain, smooth = (inverted(z, part, tv_weights=[w], iterations=100).images for w in (0.0, 1.0))
    assert smooth.diff(dim=-1).abs().mean() < 0.5 * plain.diff(dim=-1).abs().mean()


def test_falling_weights_go_on_where_the_one_before_ended() -> None:
    part = head()
    z = sent(part, PIXELS)
    guess = inverted(z, part, tv_weights=[1.0, 0.0], lrs=[0.05, 0.05], iterations=150)
    assert guess.curve["iteration"].tolist() == list(range(1, 301))
    assert guess.curve["objective"].shape == (4, 300)
    single = inverted(z, part, tv_weights=[1.0], iterations=150)
    assert torch.allclose(guess.curve["objective"][:, :150], single.curve["objective"])
    assert (DOMAIN.pixels(guess.images) - PIXELS).abs().max() < 0.01


def test_pixels_stay_in_bounds_where_they_are_clamped() -> None:
    part = head()
    z = 3 * sent(part, PIXELS)
    bounded, free = (DOMAIN.pixels(inverted(z, part, clamp_pixels=c, iterations=50).images) for c in (True, False))
    assert bounded.min() > -1e-5
    assert bounded.max() < 1 + 1e-5
    assert free.max() > 1.1


def test_the_best_restart_counts_and_one_that_is_not_finite_is_said_to_diverge() -> None:
    part = head(nn.MaxPool2d(4))
    z = sent(part, PIXELS)
    one, best = (inverted(z, part, init="uniform", restarts=n, iterations=40) for n in (1, 4))
    assert (best.diagnostics["objective"] <= one.diagnostics["objective"] + 1e-6).all()
    assert (best.diagnostics["evaluations"] == 4 * one.diagnostics["evaluations"]).all()
    z = z.clone()
    z[2] = torch.nan
    broken = inverted(z, part, init="uniform", restarts=2, iterations=5)
    assert broken.diverged.tolist() == [False, False, True, False]
    assert broken.images.isfinite().all()


def test_it_may_start_at_the_mean_of_its_own_images() -> None:
    part = head()
    start = attack(init="mean", iterations=1, lrs=[1e-9])
    assert start.needs == {"model", "domain", "prior"}
    prior = ImageSet(torch.full((3, 2, 8, 8), 51, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64))
    known = Knowledge(model=part, domain=DOMAIN, prior=prior)
    guess = start(seen(sent(part, PIXELS)), known, {}, Bench(), Rng(0))
    assert (DOMAIN.pixels(guess.images) - 0.2).abs().max() < 1e-5


def test_restarts_from_one_image_and_weights_without_steps_are_refused() -> None:
    with pytest.raises(UserError, match=r"take attack\.init=uniform"):
        attack(restarts=2)
    with pytest.raises(UserError, match=r"attack\.lrs=\[0\.05\]: .* give as many"):
        attack(tv_weights=[0.1, 0.0])
    assert replace(attack(), init="uniform", restarts=2).restarts == 2
