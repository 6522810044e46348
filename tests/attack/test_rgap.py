"""The image behind convolutions, solved for layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from attack_world import seen_by_attack
from tiny import Bench
from torch import nn
from torch.nn.functional import cross_entropy

from privsweep.attack.rgap import Rgap
from privsweep.gradient_inversion.joint_refinement import refined
from privsweep.gradient_inversion.recursion import recursion
from privsweep.interface.data import Domain
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.metric.score import score
from privsweep.model.convolution_chain import convolution_chain

SMALL = (
    "attack=rgap", "dataset=digits", "dataset.train_size=60", "dataset.test_size=20", "fl_setting.rounds=0",
    "fl_setting.victims=3", "model.kernel=3",
)  # fmt: skip
DOMAIN = Domain(shape=(1, 8, 8), classes=10, mean=(0.0,), std=(1.0,))


def attacked(*overrides: str) -> dict[str, Any]:
    spec, out = seen_by_attack([*SMALL, *overrides])
    guess = spec.attack(out.seen, out.known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    metrics, *_ = score(guess, out.truth, out.known.domain, "zen", 0.6)
    return dict(metrics)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [
            "model.init=default", "model.activation=leaky_relu", "model.padding=valid", "model.depth=2",
            "model.pool_after=[]",
        ],
        ["model.activation=tanh", "model.init=default", "model.fc=[16]", "model.pool_after=[]", "model.depth=1"],
        ["model.init=default", "fl_setting.rounds=1", "fl_setting.capture.round=last"],
        [
            "fl_setting.capture.what=difference", "fl_setting.optimizer=sgd", "fl_setting.lr=0.1",
            "fl_setting.local_epochs=1", "fl_setting.rounds=1",
        ],
        ["defense=[precode]", "defense.precode.k=8"],
        ["defense=[dp_sgd]", "defense.dp_sgd.epsilon=null", "defense.dp_sgd.noise_multiplier=0"],
    ],
    ids=["sigmoid", "leaky", "one convolution", "trained", "difference", "precode", "clipped"],
)  # fmt: skip
def test_an_image_comes_out_exactly(overrides: list[str]) -> None:
    metrics = attacked(*overrides)
    assert metrics["recovered"] == 1
    assert metrics["psnr"] > 40
    assert metrics["label_accuracy"] == 1


def test_where_relu_hides_pixels_the_likeliest_picture_is_near() -> None:
    assert attacked("model.activation=relu", "model.init=default")["ssim"] > 0.6


def test_noise_and_pruning_cost_by_their_strength() -> None:
    def noisy(sigma: float) -> float:
        of_noise = ("defense=[noisy_gradients]", f"defense.noisy_gradients.sigma={sigma}", "fl_setting.victims=1")
        return float(attacked(*of_noise)["mse"])

    assert noisy(1e-6) < 1e-3 < noisy(10.0)
    assert attacked("defense=[gradient_pruning]", "defense.gradient_pruning.fraction=0.3")["psnr"] > 40


def test_a_layer_whose_gradient_was_pruned_altogether_tells_that_it_is_small() -> None:
    pruned = ("defense=[gradient_pruning]", "defense.gradient_pruning.fraction=0.9", "fl_setting.victims=1")
    assert attacked("model.init=default", *pruned)["ssim"] > 0.9


def test_entries_that_were_pruned_by_another_rule_are_not_taken_for_small() -> None:
    lowest = (
        "defense=[gradient_pruning]", "defense.gradient_pruning.keep=not_lowest",
        "defense.gradient_pruning.fraction=0.05",
    )  # fmt: skip
    assert attacked("model.width=24", *lowest)["psnr"] > 40


def test_of_relu_what_noise_leaves_open_is_weighed() -> None:
    noise = ("defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-3")
    assert attacked("model.width=24", "model.activation=relu", "model.init=default", *noise)["ssim"] > 0.7


def test_of_a_network_that_diverged_nothing_is_found() -> None:
    spec, out = seen_by_attack([*SMALL, "fl_setting.victims=1"])
    weights, delta = (
        {name: torch.full_like(t, torch.nan) for name, t in of.items()} for of in (out.seen.weights, out.seen.delta)
    )
    guess = spec.attack(replace(out.seen, weights=weights, delta=delta), out.known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    assert guess.diverged.all()
    assert guess.images.isfinite().all()


def test_all_layers_at_once_tell_more_than_one_by_one_under_noise() -> None:
    _, out = seen_by_attack([
        *SMALL, "defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-3", "fl_setting.victims=1",
    ])  # fmt: skip
    chain = convolution_chain(out.known.model)
    assert chain is not None
    near = recursion(chain, out.seen.weights, out.seen.delta, out.known.domain, Rng(0))
    found = refined(chain, out.seen.weights, out.seen.delta, out.known.domain, near)
    before, after = (
        (out.known.domain.pixels(x) - out.truth.pixels[:, 0]).square().mean() for x in (near.images, found)
    )
    assert after < 0.7 * before


def test_a_victim_is_found_alone_as_among_others() -> None:
    spec, out = seen_by_attack([*SMALL, "defense=[noisy_gradients]", "defense.noisy_gradients.sigma=1e-3"])
    one = out.seen.take(slice(1, 2))
    among, alone = (spec.attack(seen, out.known, {}, Bench(), Rng(0)) for seen in (out.seen, one))
    assert torch.allclose(among.images[1:2], alone.images, atol=1e-4)


def test_as_many_victims_are_fitted_at_once_as_memory_holds() -> None:
    _, out = seen_by_attack([*SMALL, "fl_setting.victims=1"])
    little, more = (Rgap(memory=gib).victims_at_once(out.seen, out.known, torch.device("cpu")) for gib in (0.5, 1.0))
    assert more // 2 in (little, little + 1)
    assert Rgap(memory=1e-9).victims_at_once(out.seen, out.known, torch.device("cpu")) == 1


def test_an_output_layer_needs_no_bias() -> None:
    def layer(kind: type[nn.Conv2d | nn.Linear], *sizes: int) -> nn.Module:
        made = kind(*sizes, bias=False)
        made.weight.data.copy_(Rng(0).normal(*made.weight.shape) / made.weight[0].numel() ** 0.5)
        return made

    model = nn.Sequential(layer(nn.Conv2d, 1, 12, 3), nn.Sigmoid(), nn.Flatten(), layer(nn.Linear, 432, 10))
    image, labels = Rng(1).normal(2, 1, 8, 8).sigmoid(), torch.tensor([3, 7])
    weights = dict(model.named_parameters())
    own = [
        torch.autograd.grad(cross_entropy(model(image[v : v + 1]), labels[v : v + 1]), list(weights.values()))
        for v in range(2)
    ]
    gradient = {name: torch.stack(parts) for name, parts in zip(weights, zip(*own, strict=True), strict=True)}
    chain = convolution_chain(model)
    assert chain is not None
    assert Rgap(memory=1.0).fits(model, DOMAIN, None) is None
    found = recursion(chain, {name: w.detach() for name, w in weights.items()}, gradient, DOMAIN, Rng(0))
    assert torch.allclose(found.images, image, atol=1e-3)
    assert found.dense.errors.argmin(1).tolist() == labels.tolist()


def test_a_layer_that_cannot_be_undone_is_refused_and_what_is_behind_is_not_looked_at() -> None:
    def network(*between: nn.Module, groups: int = 1, dense: int = 256, classes: int = 10) -> nn.Sequential:
        last = nn.Linear(dense, classes, bias=classes > 2)
        return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=groups), *between, nn.Flatten(), last)

    attack = Rgap(memory=1.0)
    good = network(nn.Sequential(nn.Sigmoid(), nn.Identity()))
    assert convolution_chain(good) is not None
    assert convolution_chain(nn.Sequential(*good, nn.ReLU(), nn.BatchNorm1d(10), nn.Linear(10, 10))) is not None
    assert attack.fits(good, DOMAIN, None) is None
    refused = [
        network(nn.GELU()), network(nn.MaxPool2d(1)), network(nn.BatchNorm2d(4)), network(groups=2),
        network(nn.Linear(8, 4), dense=128), network(nn.Flatten(2)), nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        nn.Sequential(*network()[:-1], nn.Linear(256, 16, bias=False), nn.Linear(16, 10)),
    ]  # fmt: skip
    for model in refused:
        assert "lenet_dlg" in str(attack.fits(model, DOMAIN, None))
    assert convolution_chain(network(classes=2)) is None
    good[0].weight.requires_grad_(False)
    assert "0.weight" in str(attack.fits(good, DOMAIN, None))
    large = Domain(shape=(3, 128, 128), classes=10, mean=(0.0,) * 3, std=(1.0,) * 3)
    assert "49,152" in str(attack.fits(network(), large, None))
    assert torch.is_grad_enabled()
