"""What ``plan=true`` shows."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Privsweep
from tiny import small_table

TABLE = """\
# @package _global_
defaults:
  - override /attack: blind
table:
  title: A small table
  place: nowhere
  rows: {mse: {label: MSE, metric: mse}}
  columns:
    grey: {label: Grey, overrides: [attack.guess=grey]}
    too: {label: Grey too, overrides: ["attack.guess=grey", "defense=[]"]}
    noise: {label: Noise, overrides: [attack.guess=noise]}
  seeds: [0]
"""


def test_it_lists_each_run_once_what_is_stored_and_what_the_rest_will_cost(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small_table(tmp_path, TABLE)
    assert privsweep(*table, "plan=true") == 0
    shown = capsys.readouterr().out
    assert "grey-s0, too-s0: attack.guess=grey" in shown
    assert "2 runs, 2 to do; they fill 3 cells" in shown
    assert "trained systems: 1, of which 0 are stored" in shown
    assert "estimate: no record to judge by" in shown
    assert not (tmp_path / "outputs").exists()
    assert privsweep(*table, "only=[grey]") == 0
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 1
    capsys.readouterr()
    assert privsweep(*table, "plan=true") == 0
    shown = capsys.readouterr().out
    assert "stored" in shown.split("grey-s0")[0]
    assert "trained systems: 1, of which 1 are stored" in shown
    assert "estimate, judged by stored runs: 1 s one after another" in shown
    assert privsweep(*table) == 0
    assert len(list((tmp_path / "outputs" / "runs").iterdir())) == 2
