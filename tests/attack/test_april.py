"""A vision transformer's image, read off the gradients of its first layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from attack_world import seen_by_attack
from tiny import Bench
from torch import nn

from privsweep.attack.april import April
from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.guess import Reconstruction
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Update
from privsweep.interface.truth import Images
from privsweep.metric.score import score
from privsweep.model.torchvision_model import TorchvisionModel
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

SMALL = (
    "attack=april", "dataset=digits", "dataset.train_size=60", "dataset.test_size=20", "fl_setting.rounds=0",
    "fl_setting.victims=3", "model.patch=2", "model.width=48", "model.heads=2", "model.depth=2",
    "model.feedforward=96",
)  # fmt: skip


def attacked(*overrides: str) -> tuple[Exposure, Reconstruction, dict[str, Any]]:
    spec, out = seen_by_attack([*SMALL, *overrides])
    guess = spec.attack(out.seen, out.known, {}, Bench(), Rng(0))
    assert isinstance(guess, Reconstruction)
    metrics, *_ = score(guess, out.truth, out.known.domain, "zen", 0.6)
    return out, guess, dict(metrics)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["model.pooling=mean"],
        ["model.patch=4"],
        ["model.depth=1"],
        ["model.activation=relu", "fl_setting.rounds=1", "fl_setting.capture.round=last"],
        [
            "fl_setting.capture.what=difference",
            "fl_setting.optimizer=sgd",
            "fl_setting.lr=0.1",
            "fl_setting.local_epochs=1",
        ],
        ["defense=[precode]", "defense.precode.k=8"],
        ["defense=[dp_sgd]", "defense.dp_sgd.epsilon=null", "defense.dp_sgd.noise_multiplier=0"],
    ],
    ids=["token", "mean", "larger patches", "one block", "trained", "difference", "precode", "clipped"],
)
def test_an_image_comes_out_exactly(overrides: list[str]) -> None:
    *_, metrics = attacked(*overrides)
    assert metrics["recovered"] == 1
    assert metrics["psnr"] > 40
    assert metrics["label_accuracy"] == 1


def test_more_patches_than_the_embedding_is_wide_come_out_nearly() -> None:
    *_, metrics = attacked("model.width=12")  # 16 patches
    assert 0.8 < metrics["ssim"] < 0.9999


def test_noise_costs_as_much_as_it_must_and_no_more() -> None:
    """The answer stays nearer than plain least squares, and goes to grey where nothing is left."""
    little, much = (attacked("defense=[noisy_gradients]", f"defense.noisy_gradients.sigma={s}") for s in (1e-5, 10.0))
    assert little[2]["ssim"] > 0.9
    out, guess, _ = little
    seen = out.seen
    assert isinstance(seen, Update)
    assert isinstance(out.truth, Images)
    position, weight = seen.delta["patches.position"][:, 1:], seen.delta["patches.project.weight"].flatten(2)
    plain = torch.linalg.lstsq(position.mT, weight).solution
    images = nn.functional.fold(plain.mT, (8, 8), 2, stride=2)
    truth = out.truth.pixels[:, 0]
    ours = (guess.images[:, 0] - truth).square().mean()
    assert ours <= 1.01 * (images - truth).square().mean()
    assert much[1].images.sub(0.5).abs().max() < 0.2


def test_what_is_whole_after_pruning_tells_all() -> None:
    *_, metrics = attacked("model.width=96", "defense=[gradient_pruning]", "defense.gradient_pruning.fraction=0.05")
    assert metrics["ssim"] > 0.9
    much = attacked("defense=[gradient_pruning]", "defense.gradient_pruning.fraction=0.9")[1]
    assert much.images.sub(0.5).abs().max() < 1  # grey rather than anything


def test_a_victims_answer_does_not_depend_on_the_others() -> None:
    out, guess, _ = attacked()
    assert isinstance(out.seen, Update)
    alone = April()(out.seen.take(slice(1, 2)), out.known, {}, Bench(), Rng(0))
    torch.testing.assert_close(alone.images[0], guess.images[1], rtol=0, atol=1e-5)


def test_an_update_that_is_no_number_counts_as_diverged() -> None:
    out, *_ = attacked()
    assert isinstance(out.seen, Update)
    delta = {name: d.clone() for name, d in out.seen.delta.items()}
    delta["patches.position"][1, 3, 0] = torch.nan
    delta["patches.project.weight"][2] = 0
    guess = April()(replace(out.seen, delta=delta), out.known, {}, Bench(), Rng(0))
    assert guess.diverged.tolist() == [False, True, False]
    assert guess.images.isfinite().all()


def test_torchvisions_transformer_is_read_too() -> None:
    domain = Domain((3, 224, 224), 10, (0.5,) * 3, (0.2,) * 3)
    model = TorchvisionModel(name="vit_b_32").build(domain, Rng(0))
    pixels = torch.rand(1, 3, 224, 224, generator=Rng(1).generator())
    nn.init.normal_(model.get_parameter("heads.head.weight"), generator=Rng(2).generator())  # zeros tell nothing
    loss = nn.functional.cross_entropy(model(domain.inputs(pixels)), torch.tensor([3]))
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    delta = {name: g[None] for name, g in zip(names, gradients, strict=True)}
    out, *_ = attacked()
    assert isinstance(out.seen, Update)
    seen = replace(out.seen, delta=delta, weights=dict(model.state_dict()))
    assert April().fits(model, domain, None) is None
    guess = April()(seen, type(out.known)(model=model, domain=domain, recipe=out.known.recipe), {}, Bench(), Rng(0))
    assert domain.pixels(guess.images[:, 0]).sub(pixels).abs().mean() < 1e-3
    assert guess.labels is not None
    assert guess.labels.tolist() == [[3]]


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["model.positions=sinusoidal"],
            "learnt positions; take model=vit, with model.positions=learnt, or attack=iga",
        ),
        (["fl_setting.capture.batch_size=2"], "mixes the examples behind one update, 2 here, and tells 1 apart"),
        (["defense=[secure_aggregation]"], "mixes the examples behind one update, 3 here"),
        (["fl_setting.position=client", "fl_setting.clients=4"], "mixes the examples behind one update, 3 here"),
    ],
)
def test_what_it_cannot_read_is_said_before_any_work(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=said):
        attacked(*overrides)


def test_what_a_client_hears_of_one_other_is_read() -> None:
    assert attacked("fl_setting.position=client", "fl_setting.clients=2")[2]["recovered"] == 1


def test_frozen_positions_are_not_sent() -> None:
    with searching(None):
        spec = build(compose(list(SMALL)))
    domain = Domain((1, 8, 8), 10, (0.0,), (1.0,))
    model = spec.model.build(domain, Rng(0))
    model.get_parameter("patches.position").requires_grad_(False)
    assert "the update has no patches.position" in str(April().fits(model, domain, None))
