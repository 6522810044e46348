"""Shadows under the target's defence: as the target was trained, and only where there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from membership_world import SHADOWS, digits
from tiny import Bench, central

from privsweep.attack.lira import LiRA
from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.gradient_pruning import GradientPruning
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.precode import Precode
from privsweep.defense.stack import Stack
from privsweep.interface.data import Tensors
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure
from privsweep.model.mlp import MLP
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.header import header_of
from privsweep.run.run import run

MODEL = MLP(width=16, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
NOTHING = GradientPruning(fraction=0.0, keep="rest", scope="global")
SMALL = [
    "fl_setting=central", "fl_setting.epochs=1", "model=smlp", "model.width=4", "dataset.train_size=40",
    "dataset.test_size=40", "dataset.prior_size=100", "attack=lira_online", "attack.shadows=2",
]  # fmt: skip


def lira(**changes: Any) -> LiRA:
    return LiRA(**{**SHADOWS, "shadows": 4, "online": True, "queries": None, "estimate": "related", **changes})


def exposed(*defenses: Any) -> Exposure:
    data, setting = digits(), central(epochs=2, batch_size=16)
    defense = Stack({type(d).__name__: d for d in defenses}).bind(setting.schedule(data, Rng(0)))
    system = setting.train(data, MODEL, defense, Rng(0), Bench())
    out = setting.views()[1].expose(system, data, MODEL, defense, Rng(0))
    return replace(out, known=out.known.having(prior=data.prior))


def prepared(attack: LiRA, out: Exposure) -> Tensors:
    return attack.prepare(out.known.only(attack.prepares_from), Bench(), Rng(0))


def test_they_have_the_layers_of_the_defence_and_answer_with_classes_alone() -> None:
    out, attack = exposed(Precode(k=8, beta=1e-3)), lira()
    shadows = prepared(attack, out)
    assert any("bottleneck" in name for name in shadows)
    known = out.known.only(attack.needs)
    found = attack(out.seen, known, shadows, Bench(), Rng(0))  # type: ignore[arg-type]
    assert isinstance(found, Scores)
    assert found.scores.isfinite().all()
    answers, _ = attack.on_candidates(known, shadows, Rng(0), 0)
    assert answers.shape == (4, len(known.candidates), 10)
    assert torch.allclose(answers.sum(-1), torch.ones(()))
    assert not torch.equal(answers, attack.on_candidates(known, shadows, Rng(1), 0)[0])  # they draw as the target does
    assert not any("bottleneck" in name for name in prepared(lira(shadows_defended=False), out))


@pytest.mark.parametrize("private", [True, False])
def test_they_take_their_steps_under_the_defence(private: bool) -> None:
    """Noise that drowns the gradients shows in the weights of shadows that know of it."""
    strong = DpSgd(
        max_grad_norm=1.0, epsilon=None, noise_multiplier=300.0, delta=None, accountant="rdp", poisson=True
    ) if private else NoisyGradients(sigma=100.0, distribution="gaussian")  # fmt: skip
    out = exposed(strong)
    [name] = [n for n in prepared(lira(), out) if n.endswith("output.weight")]
    sgd = {"optimizer": "sgd", "lr": 0.1}
    told, untold = (prepared(lira(shadows_defended=d, **sgd), out)[name].std() for d in (True, False))
    assert told > 10 * untold


def test_a_defence_of_strength_zero_changes_no_shadow() -> None:
    with_it, without = exposed(NOTHING), exposed()
    assert "defense" not in without.known.granted()
    for attack in (lira(), lira(shadows_defended=False)):
        one, other = prepared(attack, with_it), prepared(attack, without)
        assert one.keys() == other.keys()
        assert all(torch.equal(one[n], other[n]) for n in one)


def test_an_architecture_of_the_attacks_own_gets_no_layers_but_the_steps() -> None:
    own = lira(shadow=MODEL)
    assert not any("bottleneck" in name for name in prepared(own, exposed(Precode(k=8, beta=1e-3))))
    noisy = exposed(NoisyGradients(sigma=100.0, distribution="gaussian"))
    told, untold = (prepared(lira(shadow=MODEL, shadows_defended=d), noisy) for d in (True, False))
    assert not all(torch.equal(told[n], untold[n]) for n in told)


@pytest.mark.parametrize("name", ["ensembler", "dropout_single"])
def test_they_are_trained_in_the_stages_of_a_defence_that_has_some(name: str, tmp_path: Path) -> None:
    client = ["fl_setting=collaborative_inference", "fl_setting.augment=none", "model=lenet", f"defense=[{name}]"]
    with searching(None):
        given = [*(o for o in SMALL if o != "model=smlp"), *client, "scale=smoke", f"output_dir={tmp_path}"]
        record = run(build(compose(given)))
    assert record["status"] == "complete"
    assert record["threat_model"]["adaptive"]


def test_whoever_knows_of_a_defence_is_adaptive_and_without_one_nothing_changes(tmp_path: Path) -> None:
    def made(*more: str) -> Any:
        with searching(None):
            return build(compose([*SMALL, *more, f"output_dir={tmp_path}"]))

    def adaptive(spec: Any) -> bool:
        return bool(header_of(spec, spec.signature)["threat_model"].get("adaptive"))

    unknowing, dp = "attack.shadows_defended=false", "defense=[dp_sgd]"
    assert made().signature == made(unknowing).signature
    assert made(dp).signature != made(dp, unknowing).signature
    assert adaptive(made(dp))
    assert not adaptive(made(dp, unknowing))
    assert not adaptive(made())
