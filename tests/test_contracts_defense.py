"""What holds for every defence found in conf/, whoever adds to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny import TINY, Bench

from privsweep.build import Experiment, build
from privsweep.composition import CONF, compose, searching
from privsweep.game import Data
from privsweep.protection import POINTS
from privsweep.randomness import Rng

NAMES = sorted(p.stem for p in (CONF / "defense").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


def made(name: str, *overrides: str) -> Experiment:
    return build(compose([*TINY, "fl_setting=fedavg", "attack=blind", f"defense=[{name}]", *overrides]))


def test_no_defence_is_lost() -> None:
    assert {"noisy_gradients", "gradient_pruning", "gradient_quantization", "precode"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_it_composes_under_its_own_name_and_acts_in_a_federation(name: str) -> None:
    experiment = made(name)
    assert list(experiment.config["defense"]) == [name]
    [defense] = experiment.defense.defenses.values()
    assert defense.acts_at() <= set(POINTS)
    assert defense.acts_at() & experiment.fl_setting.calls


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("parallel", ["sequential", "stacked"])
def test_it_trains_a_round_and_shares_finite_updates(name: str, parallel: str, data: Data) -> None:
    experiment = made(name, "fl_setting.rounds=1", "fl_setting.local_epochs=1", f"fl_setting.parallel={parallel}")
    setting, defense = experiment.fl_setting, experiment.defense
    bench = Bench()
    system = setting.train(data, experiment.model, experiment.training_defense(), Rng(0), bench)
    assert system.last == 1
    assert 0 <= system.utility["test_accuracy"] <= 1
    assert all(w.isfinite().all() for w in system.snapshots[1].values())
    assert any(not torch.equal(w, system.snapshots[1][n]) for n, w in system.snapshots[0].items())
    out = setting.expose(system, data, experiment.model, defense, Rng(0), bench)
    assert all(len(d) == 2 and d.isfinite().all() for d in out.seen.delta.values())
