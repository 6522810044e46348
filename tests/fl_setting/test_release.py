"""Released models: who is in which, what is known of them, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from tiny import Bench

from privsweep.fl_setting.release import ReleasedModels
from privsweep.interface.data import Data, ImageSet
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Release, Trials
from privsweep.interface.truth import Images, Membership
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.with_data import check_with_data

GIVEN = [
    "fl_setting=release", "attack=none", "dataset.train_size=40", "dataset.test_size=20", "dataset.prior_size=30",
    "model=smlp", "model.width=6", "model.depth=1", "fl_setting.victims=3", "fl_setting.epochs=4",
]  # fmt: skip


def loaded(*changes: str) -> tuple[Any, Data]:
    with searching(None):
        spec = build(compose([*GIVEN, *changes]))
    return spec, spec.dataset.load(Rng(0).child("dataset"))


def trained(*changes: str) -> tuple[Any, Data, Any]:
    spec, data = loaded(*changes)
    assert isinstance(spec.fl_setting, ReleasedModels)
    defense = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    return spec, data, spec.fl_setting.train(data, spec.model, defense, Rng(0), Bench())


def exposed(*changes: str) -> Sequence[Any]:
    spec, data, system = trained(*changes)
    views = spec.fl_setting.views()
    return [spec, data, system, *(v.expose(system, data, spec.model, spec.defense, Rng(0)) for v in views)]


def test_every_model_is_trained_on_the_fixed_set_and_its_own_target() -> None:
    """The adversary's copy of the training, given the target, comes to the same weights."""
    _, data, _, shown, _ = exposed()
    assert isinstance(shown.seen, Release)
    assert isinstance(shown.truth, Images)
    algorithm = shown.known.algorithm
    targets = data.test.take(shown.truth.index[:, 0])
    again = algorithm(targets, torch.ones(3, dtype=torch.bool), [Rng(1)] * 3)
    for name, weights in shown.seen.weights.items():
        assert torch.allclose(weights, again[name], atol=1e-6)
    assert not torch.equal(again["output.weight"][0], again["output.weight"][1])
    assert torch.equal(algorithm.fixed.images, data.train.images)


def test_models_without_the_target_have_never_seen_it() -> None:
    _, _, system, _, shown = exposed("fl_setting.models=2", "fl_setting.without=2")
    assert isinstance(shown.seen, Trials)
    assert isinstance(shown.truth, Membership)
    weights = system.snapshots[4]["fc1.weight"].view(3, 4, -1)
    same = lambda a, b: torch.allclose(a, b, atol=1e-6)  # noqa: E731
    assert same(weights[0, 2], weights[1, 2])
    assert same(weights[0, 2], weights[2, 3])
    assert same(weights[0, 0], weights[0, 1])
    assert not same(weights[0, 0], weights[1, 0])
    outside = shown.seen.weights["fc1.weight"][~shown.truth.member]
    assert all(same(w, outside[0]) for w in outside)
    assert 0 < shown.truth.member.long()[:6].sum() < 6, "in random order"
    assert shown.known.candidates.images.shape[0] == 12


def test_fresh_initial_values_are_each_models_own() -> None:
    _, _, system, shown, _ = exposed("fl_setting.init=fresh", "fl_setting.without=1")
    weights = system.snapshots[4]["fc1.weight"]
    assert len({w.sum().item() for w in weights}) == 6
    assert shown.known.algorithm.start is None


def test_models_may_start_near_convergence() -> None:
    near = ["fl_setting.pretrain_size=20", "fl_setting.pretrain_epochs=30"]
    _, data, system, shown, _ = exposed(*near, "fl_setting.without=1")
    algorithm = shown.known.algorithm
    assert torch.equal(algorithm.fixed.images, data.train.images[20:])
    scratch = trained()[2]
    assert not torch.equal(algorithm.start["fc1.weight"], scratch.snapshots[0]["fc1.weight"])
    assert algorithm.start is system.snapshots[0]
    assert system.utility["start_test_accuracy"] > 0.3
    assert scratch.utility["start_test_accuracy"] < 0.3


def test_what_starts_near_convergence_has_the_layers_of_the_defence_and_not_its_noise() -> None:
    near = ["fl_setting.pretrain_size=20", "fl_setting.pretrain_epochs=30"]
    noisy = ["defense.noisy_gradients.sigma=100"]
    start = trained(*near, "defense=[precode,noisy_gradients]", *noisy)[2].snapshots[0]
    assert start["bottleneck.encoder.weight"].isfinite().all()
    quiet = trained(*near, "defense=[precode]")[2].snapshots[0]
    assert all(torch.equal(w, start[name]) for name, w in quiet.items())
    fresh = trained("defense=[precode]")[2].snapshots[0]
    assert not torch.equal(fresh["bottleneck.encoder.weight"], quiet["bottleneck.encoder.weight"])


def test_the_oracle_knows_the_fixed_set_and_the_adversarys_own_records() -> None:
    _, data, _, shown, _ = exposed()
    assert data.prior is not None
    known = torch.cat([data.train.pixels(), data.prior.pixels()])
    distances = [(known - target).square().flatten(1).mean(1).min() for target in shown.truth.pixels[:, 0]]
    assert torch.allclose(shown.truth.nearest[:, 0].float(), torch.stack(distances), atol=1e-6)


def test_shares_of_zero_gradients_are_measured_in_every_epoch() -> None:
    _, _, system = trained("fl_setting.zero_gradients=true")
    assert [row["round"] for row in system.curve] == [1, 2, 3, 4]
    assert 0 < system.utility["zero_gradients_fc1"] < 1, "relu, and pixels that are zero"
    assert system.utility["zero_gradients_output"] < system.utility["zero_gradients_fc1"]
    ends = [system.utility[f"zero_gradients_fc1_{end}"] for end in ("low", "high")]
    assert ends[0] < system.utility["zero_gradients_fc1"] < ends[1]
    alone = trained("fl_setting.zero_gradients=true", "fl_setting.victims=1")[2]
    assert "zero_gradients_fc1_low" not in alone.utility


def test_models_may_be_released_before_the_training_ends() -> None:
    kept = ["fl_setting.checkpoints=[1,3]", "fl_setting.without=1"]
    _, _, system, shown, trials = exposed(*kept, "fl_setting.released=3")
    weights = system.snapshots
    assert list(weights) == [0, 1, 3, 4]
    assert torch.equal(shown.seen.weights["fc1.weight"], weights[3]["fc1.weight"][::2])
    assert torch.allclose(trials.seen.weights["fc1.weight"].sum(0), weights[3]["fc1.weight"].sum(0), atol=1e-6)
    assert shown.done == trials.done == 3
    assert shown.known.algorithm.released == 3
    assert [row["round"] for row in system.curve] == [1, 3, 4]
    assert system.curve[-1]["test_accuracy"] == system.utility["test_accuracy"]
    _, _, short, *_ = exposed("fl_setting.epochs=3", "fl_setting.without=1")
    assert torch.allclose(short.snapshots[3]["fc1.weight"], weights[3]["fc1.weight"], atol=1e-6)


def test_training_that_is_private_is_accounted_for_every_step() -> None:
    noisy = ["defense=[dp_sgd]", "defense.dp_sgd.epsilon=10", "defense.dp_sgd.noise_multiplier=null"]
    spec, data, system = trained(*noisy, "defense.dp_sgd.poisson=false", "defense.dp_sgd.max_grad_norm=10")
    bound = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    budget = bound.budgets(spec.fl_setting.schedule(data, Rng(0)))["dp_sgd"]
    assert budget["steps"] == 4
    assert budget["sample_rate"] == 1
    assert budget["epsilon"] == pytest.approx(10, abs=0.01)
    plain = trained()[2]
    assert not torch.allclose(system.snapshots[4]["fc1.weight"], plain.snapshots[4]["fc1.weight"], atol=1e-3)


def refused(*changes: str) -> None:
    spec, data = loaded(*changes)
    check_with_data(spec, data, None, Rng(0))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            ["fl_setting.victims=21"],
            "of which there are 20 in all; take fewer",
        ),
        (["fl_setting.victims=1", "dataset.test_size=1"], "there are 1 in all; take a dataset.test_size of 2 or more"),
        (["fl_setting.pretrain_size=40", "fl_setting.pretrain_epochs=1"], "leaves nothing of 40 training images"),
        (["fl_setting.checkpoints=[2,5]"], "training ends after 4 epochs"),
        (
            ["fl_setting.zero_gradients=true", "model=vgg16", "model.pool_after=[1]"],
            "no record has a gradient of its own",
        ),
        (["fl_setting.released=3"], "fl_setting.released=3: models are kept after [4] epochs; add it to"),
        (["fl_setting.pretrain_size=4"], "one goes with the other"),
        (["fl_setting.pretrain_size=4", "fl_setting.pretrain_epochs=1", "fl_setting.init=fresh"], "init=shared"),
        (["defense=[dp_sgd]", "defense.dp_sgd.poisson=true"], "of dp_sgd take defense.dp_sgd.poisson=false"),
        (["defense=[noisy_gradients,ensembler]"], "trains in stages"),
        (
            ["attack=informed_membership", "fl_setting.without=0"],
            "fl_setting.without=0: membership is asked of models with",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes: list[str], words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        refused(*changes)


def test_a_fixed_set_that_holds_a_target_is_refused() -> None:
    spec, data = loaded()
    target = spec.fl_setting.targets(data, Rng(0))[1]
    images = data.train.images.clone()
    images[7] = data.test.images[target]
    spoilt = Data(data.name, ImageSet(images, data.train.labels), data.test, data.domain)
    with pytest.raises(UserError, match=f"the fixed set holds 1 of the targets .test image {target}.*victim_seed"):
        spec.fl_setting.check(spoilt, spec.model, spec.defense, Rng(0))


def test_canaries_have_a_wrong_label_in_training_and_where_membership_is_asked() -> None:
    canary = ["fl_setting.canaries=true", "fl_setting.without=1"]
    _, data, system, _, asked = exposed(*canary)
    _, _, plain, _, right = exposed("fl_setting.without=1")
    assert torch.equal(asked.truth.index, right.truth.index)
    assert torch.equal(asked.truth.member, right.truth.member)
    assert torch.equal(asked.known.candidates.images, right.known.candidates.images)
    assert torch.equal(right.known.candidates.labels, data.test.labels[right.truth.index])
    assert (asked.known.candidates.labels != right.known.candidates.labels).all()
    records = asked.known.candidates
    again = asked.known.algorithm(records, asked.truth.member, [Rng(1)] * len(records))
    for name, weights in asked.seen.weights.items():
        assert torch.allclose(weights, again[name], atol=1e-6)
    with_target = torch.arange(6) % 2 == 0
    for name, weights in system.snapshots[4].items():
        assert torch.equal(weights[~with_target], plain.snapshots[4][name][~with_target])
    assert not torch.equal(system.snapshots[4]["output.bias"][0], plain.snapshots[4]["output.bias"][0])
