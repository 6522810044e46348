"""What a run will take, judged by runs like it."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.estimate import Estimator
from privsweep.run.run_spec import RunSpec


@pytest.fixture(scope="module")
def spec() -> Iterator[RunSpec]:
    with searching(None):
        yield build(compose(["attack.iterations=100", "device=cpu"]))


def record(spec: RunSpec, train: float = 3.0, rest: float = 10.0, cached: bool = False, **changes: Any) -> Any:
    made = {
        "choices": dict(spec.choices),
        "config": deepcopy(dict(spec.config)),
        "seconds": {"train": train, "prepare": 0.0, "total": train + rest},
        "sizes": {"train": 1000},
        "environment": {"device": "cpu", "memory_gib": 1.5, "trained_from_cache": cached},
    }
    for path, value in changes.items():
        part, _, name = path.partition("__")
        if name:
            made[part][name] = value
        else:
            made["config"][part] = value
    return made


def test_a_run_that_differs_in_the_seed_alone_tells_most(spec: RunSpec) -> None:
    other = record(spec, rest=99.0, choices__defense=["noisy_gradients"], metrics={})
    found = Estimator([record(spec, seed=7), other])(spec)
    assert found.seconds(trains=True) == pytest.approx(13)
    assert found.seconds(trains=False) == pytest.approx(10)
    assert found.memory == 1.5


def test_a_sweep_of_many_runs_looks_through_the_records_once(spec: RunSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[RunSpec] = []
    estimator = Estimator([record(spec, seed=7, rest=20.0), record(spec, metrics={}, rest=10.0)])
    whole = estimator._estimate
    monkeypatch.setattr(estimator, "_estimate", lambda spec, device: looked.append(spec) or whole(spec, device))
    swept = [replace(spec, config={**spec.config, "attack": {**spec.config["attack"], "lr": lr}}) for lr in (2, 3, 4)]
    assert [estimator(one).attack for one in swept] == pytest.approx([15, 15, 15])
    assert len(looked) == 1
    assert estimator(spec).attack == pytest.approx(20), "of this one a record tells more"
    more = replace(spec, config={**spec.config, "attack": {**spec.config["attack"], "lr": 2, "iterations": 200}})
    assert estimator(more).attack == pytest.approx(30)


def test_seconds_grow_with_the_amount_of_work(spec: RunSpec) -> None:
    less = record(spec, rest=10.0)
    less["config"]["attack"]["iterations"] = 25
    assert Estimator([less])(spec).attack == pytest.approx(40)


def test_a_trial_run_says_nothing_of_a_long_one(spec: RunSpec) -> None:
    tiny, near = record(spec, rest=2.0), record(spec, rest=10.0)
    tiny["config"]["attack"]["iterations"], near["config"]["attack"]["iterations"] = 1, 50
    assert Estimator([tiny])(spec).attack is None
    assert Estimator([tiny, near])(spec).attack == pytest.approx(20)


def test_models_that_are_attacked_as_initialised_say_nothing_of_training(spec: RunSpec) -> None:
    untrained, short = record(spec, train=0.01, seed=7), record(spec, train=2.0, choices__defense=["noisy_gradients"])
    untrained["config"]["fl_setting"]["rounds"] = 0
    short["config"]["fl_setting"]["rounds"] = spec.config["fl_setting"]["rounds"] / 4
    assert Estimator([untrained])(spec).training is None
    assert Estimator([untrained, short])(spec).training == pytest.approx(8)


def test_all_of_a_dataset_is_more_than_some_of_it(spec: RunSpec) -> None:
    assert spec.config["dataset"]["train_size"] is None
    some, whole = record(spec, train=2.0, metrics={}), record(spec, train=99.0, seed=7)
    some["config"]["dataset"]["train_size"] = 100
    whole["config"]["dataset"]["train_size"] = None
    assert Estimator([some])(spec).training is None, "how large the whole dataset is, no run has told"
    whole["config"]["fl_setting"]["rounds"] = 0
    assert Estimator([some, whole])(spec).training == pytest.approx(20)


def test_memory_is_that_of_runs_with_the_same_attack(spec: RunSpec) -> None:
    heavy = record(spec, choices__attack="iga", environment__memory_gib=6.0)
    assert Estimator([record(spec), heavy])(spec).memory == 1.5


def test_preparing_does_not_grow_with_the_victims(spec: RunSpec) -> None:
    fewer = record(spec, rest=30.0, seconds__prepare=20.0)
    fewer["config"]["fl_setting"]["victims"] = spec.config["fl_setting"]["victims"] / 2
    assert Estimator([fewer])(spec).attack == pytest.approx(2 * 10 + 20)


def test_neither_loading_nor_what_a_process_imports_grows_with_the_work(spec: RunSpec) -> None:
    less = record(spec, rest=10.0, seconds__load=3.0)
    less["seconds"]["import"] = 2.0
    less["config"]["attack"]["iterations"] = 25
    assert Estimator([less])(spec).attack == pytest.approx(4 * (10 - 3 - 2) + 3)


def test_training_that_was_taken_over_tells_nothing_of_training(spec: RunSpec) -> None:
    found = Estimator([record(spec, cached=True)])(spec)
    assert found.training is None
    assert found.seconds(trains=True) is None
    assert found.seconds(trains=False) == pytest.approx(10)


def test_the_run_of_another_attack_tells_of_training_alone(spec: RunSpec) -> None:
    found = Estimator([record(spec, train=5.0, choices__attack="iga")])(spec)
    assert found.training == pytest.approx(5)
    assert found.attack is None


def test_a_preparation_that_was_taken_over_counts_as_in_the_run_that_made_it(spec: RunSpec) -> None:
    made = record(spec, rest=30.0, choices__defense=["noisy_gradients"], seconds__prepare=20.0)
    found = Estimator([record(spec), made])(spec)
    assert found.attack == pytest.approx(30)


def test_nothing_alike_gives_no_estimate(spec: RunSpec) -> None:
    for strange in ({"environment__device": "cuda"}, {"choices__model": "vgg16"}):
        found = Estimator([record(spec, **strange)])(spec)
        assert (found.training, found.attack, found.memory) == (None, None, None)
