"""The command that goes on from a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

import privsweep as library
from privsweep.cli import terminal
from privsweep.cli.go_on import go_on, spared
from privsweep.run.compose import parse, searching


@pytest.mark.parametrize(
    ("typed", "metrics", "command"),
    [
        ("attack=iga", {"recovered": 0.5}, "privsweep attack=iga 'defense=[noisy_gradients]'"),
        ("attack=iga force=true", {"recovered": 0.0}, "privsweep attack=iga attack.restarts=4"),
        (
            "attack=iga defense=[soteria]",
            {"recovered": 0.0},
            "privsweep attack=iga 'defense=[soteria]' attack.only_nonzero=true",
        ),
        (
            "attack=iga defense=[precode] attack.noise=fresh",
            {"recovered": 0.5},
            "privsweep attack=iga 'defense=[precode]' attack.noise=optimised attack.match=deterministic_layers",
        ),
        (
            "attack=iga defense=[soteria] attack.only_nonzero=true",
            {"recovered": 0.0},
            "privsweep attack=iga 'defense=[soteria]' attack.only_nonzero=true attack.restarts=4",
        ),
        (
            "attack=analytic defense=[precode] model=smlp",
            {"recovered": 0.0},
            "privsweep -m attack=analytic 'defense=[precode]' model=smlp seed=0,1,2",
        ),
        (
            "attack=iga defense=[soteria,noisy_gradients]",
            {"recovered": 0.0},
            "privsweep attack=iga 'defense=[soteria,noisy_gradients]' attack.restarts=4",
        ),
        ("defense=[noisy_gradients] seed=3", {"recovered": 0.5}, "privsweep -m 'defense=[noisy_gradients]' seed=0,1,2"),
        ("fl_setting=split", {"recovered": 0.5}, "privsweep fl_setting=split 'defense=[single_noise]'"),
        ("attack=none model=smlp", {}, "privsweep model=smlp"),
        ("attack=loss_threshold", {"auc_low": 0.6}, "privsweep attack=loss_threshold 'defense=[dp_sgd]'"),
        ("attack=loss_threshold", {"auc_low": 0.4}, "privsweep -m attack=loss_threshold seed=0,1,2"),
        (
            "attack=loss_threshold model=resnet18 model.norm=batch dataset.resize=32",
            {"auc_low": 0.6},
            "privsweep -m attack=loss_threshold model=resnet18 model.norm=batch dataset.resize=32 seed=0,1,2",
        ),
    ],
)
def test_it_follows_from_what_was_typed_and_what_came_out(typed: str, metrics: dict[str, Any], command: str) -> None:
    spec = library.compose(*typed.split())
    with searching(None):
        given = parse(typed.split())
    assert go_on(spec, {"metrics": metrics}, given, None)[0] == command


@pytest.mark.parametrize(
    ("typed", "override"),
    [
        ("attack=dlg", "fl_setting.rounds=0"),
        ("attack=iga fl_setting=central", "fl_setting.epochs=0"),
        ("attack=iga fl_setting.capture.round=1", None),
        ("attack=dlg fl_setting.rounds=0", None),
        ("attack=iga defense=[dp_sgd]", None),
        ("attack=generative_decoder dataset.prior_size=100", None),
        ("attack=loss_threshold", None),
        ("attack=none", None),
    ],
)
def test_a_training_that_the_attack_never_sees_can_be_spared(
    typed: str, override: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = library.compose(*typed.split(), f"output_dir={tmp_path}")
    assert spared(spec) == override
    terminal.start(spec)
    assert ("leaves out the training" in capsys.readouterr().out) == (override is not None)


def test_without_that_training_the_attack_comes_out_the_same(tmp_path: Path) -> None:
    typed = ["attack=dlg", "attack.iterations=3", f"output_dir={tmp_path}", *TINY]
    trained, spare = (library.execute(library.compose(*typed, *more)) for more in ([], ["fl_setting.rounds=0"]))
    assert trained["metrics"] == spare["metrics"]
    assert trained["utility"].keys() > spare["utility"].keys()
    assert spared(library.compose(*typed, "seed=1")) == "fl_setting.rounds=0"
    assert spared(library.compose(*typed)) is None, "it is stored"
