"""A malicious server's weights, with which only images of one class leave a gradient."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from attack_world import seen_by_attack
from tiny import Bench
from torch import nn

from privsweep.attack.fishing import Fishing
from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Update
from privsweep.interface.truth import Images
from privsweep.metric.images import ssim
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run_spec import RunSpec

SMALL = (
    "attack=fishing", "dataset=digits", "dataset.train_size=200", "dataset.test_size=20", "fl_setting.rounds=0",
    "fl_setting.victims=6", "fl_setting.capture.batch_size=8",
)  # fmt: skip
APRIL = (
    "attack@attack.inversion=april", "model=vit", "model.patch=2", "model.width=48", "model.heads=2", "model.depth=2",
    "model.feedforward=96",
)  # fmt: skip
PERCEPTRON = ("attack@attack.inversion=analytic", "model=smlp", "model.width=64")


def made(*overrides: str) -> RunSpec:
    with searching(None):
        return build(compose([*SMALL, *overrides]))


def attacked(*overrides: str) -> tuple[Exposure, Reconstruction, torch.Tensor, torch.Tensor]:
    """Of what is seen the guess, how many images are hooked ``[V]``, and the SSIM of every one that is."""
    spec, out = seen_by_attack([*SMALL, *overrides])
    guess = spec.attack(out.seen, out.known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    assert isinstance(out.truth, Images)
    assert out.truth.labels is not None
    there = out.truth.labels == 0
    assert guess.labels is not None
    found = []
    for v in range(len(there)):
        ours, theirs = out.known.domain.pixels(guess.images[v, guess.labels[v] == 0]), out.truth.pixels[v, there[v]]
        if len(ours) == len(theirs) == 1:
            found.append(ssim(ours[None].clamp(0, 1), theirs[None])[0, 0])
    return out, guess, there.sum(1), torch.tensor(found)


@pytest.mark.parametrize("inversion", [APRIL, PERCEPTRON], ids=["april", "analytic"])
@pytest.mark.parametrize(
    "how",
    [
        [],
        ["fl_setting.capture.what=difference", "fl_setting.optimizer=sgd", "fl_setting.lr=0.1",
         "fl_setting.local_epochs=1"],
        ["defense=[precode]", "defense.precode.k=8"],
        ["defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-4"],
        ["defense=[secure_aggregation]", "fl_setting.capture.batch_size=3"],
        ["fl_setting.rounds=1", "fl_setting.capture.round=last"],
    ],
    ids=["gradient", "difference", "precode", "noise", "sum", "trained"],
)  # fmt: skip
def test_the_only_image_of_its_class_comes_out_of_a_batch(inversion: tuple[str, ...], how: list[str]) -> None:
    out, guess, there, found = attacked(*inversion, *how)
    assert guess.diagnostics["hooked"].tolist() == there.tolist()
    assert len(found) > 0
    assert found.min() > 0.95
    assert isinstance(out.truth, Images)
    assert out.truth.labels is not None
    assert guess.labels is not None
    assert guess.labels.tolist() == out.truth.labels.sort(1).values.tolist()  # all labels are told, too


def test_clipping_hides_how_many_are_hooked_and_not_what() -> None:
    """The labels of the others are told, and whatever is hooked is taken for one image."""
    how = ("defense=[dp_sgd]", "defense.dp_sgd.epsilon=null", "defense.dp_sgd.noise_multiplier=0")
    out, guess, there, _ = attacked(*APRIL, *how)
    assert isinstance(out.truth, Images)
    assert out.truth.labels is not None
    assert guess.diagnostics["hooked"].tolist() == [0] * 6
    alone = (there == 1).nonzero()[:, 0].tolist()
    assert alone
    for victim in alone:
        [one] = out.truth.pixels[victim, out.truth.labels[victim] == 0]
        best = max(
            ssim(out.known.domain.pixels(image)[None, None].clamp(0, 1), one[None, None])
            for image in guess.images[victim]
        )
        assert best > 0.95


def test_what_the_inversion_is_given_is_the_gradient_of_the_hooked_images_alone() -> None:
    out, *_ = attacked(*PERCEPTRON)
    assert isinstance(out.seen, Update)
    assert isinstance(out.truth, Images)
    assert out.truth.labels is not None
    met: list[tuple[Update, torch.Tensor]] = []

    class Spy(type(made(*PERCEPTRON).attack.inversion)):  # type: ignore[misc]
        def __call__(self, seen, known, *rest):  # type: ignore[no-untyped-def]
            met.append((seen, known.labels))
            return super().__call__(seen, known, *rest)

        needs = frozenset({"model", "domain", "recipe", "labels"})

    attack = Fishing(target=0, gain=1e3, inversion=Spy(agreement=1e-3, most_probable=False))
    attack(out.seen, out.known, {}, Bench(), Rng(0))
    model, weights = out.known.model, {n: w.clone().requires_grad_() for n, w in out.seen.weights.items()}
    for seen, labels in met:
        for place, victim in enumerate(seen.victims):
            own = out.truth.labels[victim] == 0
            x = out.known.domain.inputs(out.truth.pixels[victim, own])
            answer = torch.func.functional_call(model, weights, (x,))
            loss = nn.functional.cross_entropy(answer, torch.zeros(len(x), dtype=torch.int64))
            wanted = torch.autograd.grad(loss, list(weights.values()))
            assert labels[place].tolist() == [0] * len(x)
            for name, gradient in zip(weights, wanted, strict=True):
                torch.testing.assert_close(
                    seen.delta[name][place], gradient, rtol=1e-3, atol=1e-5 * gradient.abs().max()
                )
    assert sum(len(seen.victims) for seen, _ in met) == int((out.truth.labels == 0).any(1).sum())


def test_a_victims_answer_does_not_depend_on_the_others() -> None:
    out, guess, *_ = attacked("model.width=4", "attack.inversion.iterations=10")
    attack = made("model.width=4", "attack.inversion.iterations=10").attack
    assert isinstance(out.seen, Update)
    for victim in (1, 4):
        alone = attack(out.seen.take(slice(victim, victim + 1)), out.known, {}, Bench(), Rng(0))
        assert isinstance(alone, Reconstruction)
        torch.testing.assert_close(alone.images[0], guess.images[victim], rtol=0, atol=1e-3)


def test_an_update_that_is_no_number_counts_as_diverged() -> None:
    out, *_ = attacked(*APRIL)
    assert isinstance(out.seen, Update)
    delta = {name: d.clone() for name, d in out.seen.delta.items()}
    delta["output.bias"][1, 0] = torch.nan
    guess = made(*APRIL).attack(replace(out.seen, delta=delta), out.known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    assert guess.diverged.tolist() == [False, True, False, False, False, False]
    assert guess.images.isfinite().all()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["attack@attack.inversion=imprint"], "attack.inversion: is no attack that inverts the gradient"),
        (["attack@attack.inversion=loss_threshold"], "attack.inversion: is no attack that inverts the gradient"),
        (["fl_setting.position=client", "fl_setting.clients=3"], "works from position server"),
        (["fl_setting.capture.what=difference", "fl_setting.optimizer=adam"], "not a multiple of a gradient"),
    ],
)
def test_what_does_not_fit_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        made(*overrides)


def test_networks_and_classes_that_do_not_fit_are_refused() -> None:
    attack, domain = made(*PERCEPTRON).attack, Domain((1, 8, 8), 10, (0.0,), (1.0,))
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    assert attack.fits(model, domain, None) is None
    assert "classes are numbered 0 to 9" in str(replace(attack, target=10).fits(model, domain, None))
    model[3].weight.requires_grad_(False)
    assert "the update has no 3.weight" in str(attack.fits(model, domain, None))
    convolution = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 10, bias=False))
    assert "must end in a linear layer with a bias" in str(attack.fits(convolution, domain, None))


def test_settings_within_the_inversion_count_as_they_do_alone() -> None:
    assert made().signature == made("attack.inversion.memory=2").signature
    assert made().signature != made("attack.inversion.lr=0.02").signature
