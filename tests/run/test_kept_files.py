"""A YAML file is parsed once, and again as soon as it has changed."""

from __future__ import annotations

import os
from pathlib import Path

from privsweep.run.compose import compose, searching


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text("# @package _global_\nseed: 1\n")
    with searching(str(tmp_path)):
        assert compose(["experiment=mine"]).config["seed"] == 1
        file.write_text("# @package _global_\nseed: 2\n")
        os.utime(file, ns=(1, 1))  # a clock that is too coarse to tell the two apart
        assert compose(["experiment=mine"]).config["seed"] == 2


def test_a_composition_does_not_change_the_next_one() -> None:
    with searching(None):
        first = compose(["experiment=zen/table1", "seed=5", "scale=smoke"])
        compose(["experiment=zen/table1", "dataset.train_size=7"])
        again = compose(["experiment=zen/table1", "seed=5", "scale=smoke"])
    assert first.config == again.config
