"""SIGKILL at random moments of a small sweep; ``scripts/kill_sweeps.py`` does it a hundred times to a larger one."""

import random
from pathlib import Path

import pytest
from kill_sweeps import kill
from sweep_world import COLUMNS


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # a fork of one with threads
def test_a_sweep_that_is_killed_again_and_again_comes_out_as_if_it_was_not(tmp_path: Path) -> None:
    counts = kill(tmp_path, 3, {"chunked": COLUMNS["convolutional"]}, 2, 0.5, random.Random(1))
    assert counts["kills"] == 3
    assert counts["different"] == 0
