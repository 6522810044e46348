"""SIGKILL in the middle of a small sweep; ``scripts/kill_sweeps.py`` does it at random moments, a hundred times."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kill_sweeps import Moment, kill
from sweep_world import COLUMNS

STAGES = ("systems/[!.]*", "partial/*/[!.]*", "runs/.*/record.json")  # trained, the first victim, filing


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork of one with threads
def test_a_sweep_that_is_killed_again_and_again_comes_out_as_if_it_was_not(tmp_path: Path) -> None:
    def moments(output_dir: Path, seconds: float) -> Iterator[Moment]:
        return (lambda process, stage=stage: any(output_dir.glob(stage)) for stage in STAGES)

    counts = kill(tmp_path, {"chunked": COLUMNS["convolutional"]}, 1, moments)
    assert counts == {"kills": 3, "sweeps": 1, "in a part": 2, "in a draft": 1, "different": 0}
