"""What holds for every defence found in conf/, whoever adds to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from tiny import TINY, Bench

from privsweep.interface.data import Data
from privsweep.interface.defense import POINTS
from privsweep.interface.randomness import Rng
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose, searching
from privsweep.run.run_spec import RunSpec

NAMES = sorted(p.stem for p in (CONF / "defense").glob("*.yaml"))


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


# Of what a client of collaborative inference sends: tests/defense/test_sent_features.py holds them to the same.
SENT = {"dropout_ensemble", "dropout_single", "ensembler", "random_head", "shredder", "single_noise"}
FEDERATED = [n for n in NAMES if n not in SENT]


def made(name: str, *overrides: str) -> RunSpec:
    return build(compose([*TINY, "fl_setting=fedavg", "attack=blind", f"defense=[{name}]", *overrides]))


def test_no_defence_is_lost() -> None:
    assert {"noisy_gradients", "gradient_pruning", "gradient_quantization", "precode"} <= set(NAMES)
    assert {"dp_sgd", "central_dp", "secure_aggregation"} <= set(NAMES)


@pytest.mark.parametrize("name", FEDERATED)
def test_it_composes_under_its_own_name_and_acts_in_a_federation(name: str) -> None:
    spec = made(name)
    assert list(spec.config["defense"]) == [name]
    [defense] = spec.defense.defenses.values()
    assert defense.acts_at() <= set(POINTS)
    assert spec.view is not None
    assert defense.acts_at() & (spec.fl_setting.training_calls | spec.view.calls)


@pytest.mark.parametrize("name", FEDERATED)
def test_an_attack_takes_the_answers_that_it_names(name: str) -> None:
    [defense] = made(name).defense.defenses.values()
    answers = [f"attack.{key}={value}" for key, value in defense.answered_by.items()]
    assert made(name, "attack=iga", *answers).attack.threat.adaptive == bool(answers)


@pytest.mark.parametrize("name", FEDERATED)
@pytest.mark.parametrize("parallel", ["sequential", "stacked"])
def test_it_trains_a_round_and_shares_finite_updates(name: str, parallel: str, data: Data) -> None:
    spec = made(name, "fl_setting.rounds=1", "fl_setting.local_epochs=1", f"fl_setting.parallel={parallel}")
    setting, defense = spec.fl_setting, spec.defense
    bench = Bench()
    defense = defense.bind(setting.schedule(data, Rng(0)))
    system = setting.train(data, spec.model, defense, Rng(0), bench)
    assert system.last == 1
    assert 0 <= system.utility["test_accuracy"] <= 1
    assert all(w.isfinite().all() for w in system.snapshots[1].values())
    assert any(not torch.equal(w, system.snapshots[1][n]) for n, w in system.snapshots[0].items())
    out = setting.views()[0].expose(system, data, spec.model, defense, Rng(0))
    assert all(len(d) == 2 and d.isfinite().all() for d in out.seen.delta.values())


OFF = {  # of every defence that has a strength; precode samples features at any, and masks have none
    "noisy_gradients": {"sigma": 0},
    "gradient_pruning": {"fraction": 0, "keep": "rest"},
    "gradient_quantization": {"bits": 32},
    "soteria": {"fraction": 0},
    "dp_sgd": {"max_grad_norm": "null", "epsilon": "null", "noise_multiplier": 0, "poisson": "false"},
    "central_dp": {"max_update_norm": "null", "epsilon": "null", "noise_multiplier": 0},
}


@pytest.mark.parametrize("name", [n for n in FEDERATED if n not in ("precode", "secure_aggregation")])
@pytest.mark.parametrize("position", ["server", "client"])
def test_at_strength_zero_it_is_no_defence(name: str, position: str, data: Data) -> None:
    off = [f"defense.{name}.{key}={value}" for key, value in OFF[name].items()]
    common = ["fl_setting.rounds=1", "fl_setting.local_epochs=1", f"fl_setting.position={position}"]
    outs = []
    for spec in (made(name, *common, *off), made("", *common)):
        setting = spec.fl_setting
        schedule = setting.schedule(data, Rng(0))
        defense = spec.defense.bind(schedule)
        assert not defense.budgets(schedule)
        system = setting.train(data, spec.model, defense, Rng(0), Bench())
        outs.append((system.snapshots[1], setting.views()[0].expose(system, data, spec.model, defense, Rng(0))))
    (after, out), (plain, bare) = outs
    assert all(torch.allclose(after[n], w, atol=1e-6) for n, w in plain.items())
    assert all(torch.allclose(out.seen.delta[n], d, atol=1e-6) for n, d in bare.seen.delta.items())


@pytest.mark.parametrize("name", FEDERATED)
def test_how_a_gradient_lies_in_memory_changes_nothing(name: str, data: Data) -> None:
    """On a GPU weights, and so gradients, lie pixel by pixel."""
    spec = made(name)
    defense = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    grad = {"conv.weight": Rng(1).normal(4, 3, 5, 5), "conv.bias": Rng(2).normal(4)}
    by_pixel = {n: g.contiguous(memory_format=torch.channels_last) if g.dim() == 4 else g for n, g in grad.items()}
    for act in (lambda g: defense.gradient(g, 2, Rng(3)), lambda g: defense.update(g, Rng(3)),
                lambda g: defense.aggregate(g, 2, Rng(3))):  # fmt: skip
        one, other = act(grad), act(by_pixel)
        assert all(torch.equal(one[n], other[n]) for n in grad)
