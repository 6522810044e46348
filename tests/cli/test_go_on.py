"""The command that goes on from a run."""

from __future__ import annotations

from typing import Any

import pytest

import privsweep as library
from privsweep.cli.go_on import go_on
from privsweep.run.compose import parse, searching


@pytest.mark.parametrize(
    ("typed", "metrics", "command"),
    [
        ("attack=iga", {"recovered": 0.5}, "privsweep attack=iga 'defense=[noisy_gradients]'"),
        ("attack=iga force=true", {"recovered": 0.0}, "privsweep attack=iga attack.restarts=4"),
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
