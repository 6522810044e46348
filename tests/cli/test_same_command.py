"""The command that goes on with a sweep, for whoever finds its note."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from privsweep.cli.same_command import same_command


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("seed=1", True),
        ("hydra.sweeper.n_trials=20", True),
        ("hydra.sweeper.sampler.seed=3", True),
        ("hydra.sweeper.direction=maximize", True),
        ("hydra.sweeper.storage='sqlite:///with-a-password'", False),
        ("hydra.launcher.partition=gpu", True),
        ("+hydra.job.env_set.KEY=1", False),
    ],
)
def test_a_note_holds_what_is_no_secret(typed: str, shown: bool) -> None:
    parsed = OverridesParser.create().parse_overrides([typed])
    planned = cast("Any", SimpleNamespace(config_dir=None, multirun=True, typed=parsed))
    hidden = f"{typed.partition('=')[0]}=YOUR_VALUE"
    assert same_command(planned, hidden=True)[-1] == (typed if shown else hidden)
    assert same_command(planned)[-1] == typed
