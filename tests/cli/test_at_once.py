"""Runs of a sweep at once, each in a process of its own: the same results, told in one piece, ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Privsweep
from tiny import TINY, small_table

from privsweep.cli import at_once
from privsweep.cli.at_once import Share
from privsweep.interface.machine import GIB
from privsweep.run.processes import process_lives

TABLE = """\
# @package _global_
defaults:
  - override /attack: dlg
attack: {iterations: 2}
table:
  title: A small table
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
  columns:
    one: {label: One, overrides: []}
    two: {label: Two, overrides: [attack.lr=0.5]}
    three: {label: Three, overrides: [attack.lr=0.25]}
  seeds: [0]
"""
KILLER = """\
import os, signal
from privsweep import component
from privsweep.attack.blind import Blind


@component
class Killer(Blind):
    def __call__(self, *arguments):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def numbers(folder: Path) -> dict[str, Any]:
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("runs/*/record.json")}
    return {sign: (record["metrics"], record["utility"]) for sign, record in found.items()}


def test_the_results_are_those_of_runs_in_turn_and_each_is_told_in_one_piece(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small_table(tmp_path, TABLE)
    assert privsweep(*table, "output_dir=turns") == 0
    assert "at once" not in capsys.readouterr().out
    assert privsweep(*table, "at_once=2") == 0
    shown = capsys.readouterr()
    assert numbers(tmp_path / "outputs") == numbers(tmp_path / "turns")
    lines = shown.out.splitlines()
    assert lines[0].startswith("3 runs, 2 at once with 1 thread each; at_once=1: one after the other")
    heads = [n for n, line in enumerate(lines) if line.startswith(("1 of 3: ", "2 of 3: ", "3 of 3: "))]
    assert {lines[n].partition(": ")[2] for n in heads} == {"one-s0", "two-s0", "three-s0"}
    for head in heads:
        assert lines[head + 1].startswith("dlg on digits"), "what it is"
        assert any(line.startswith("see outputs/runs/") for line in lines[head : head + 9]), "and what came of it"
    assert all("waiting for another process that trains system" in line for line in shown.err.splitlines())


def test_of_an_ad_hoc_sweep_only_what_is_not_stored_gets_a_process(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("-m", "attack=blind", "seed=1") == 0
    capsys.readouterr()
    assert privsweep("-m", "attack=blind", "seed=0,1,2", "at_once=2") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("2 runs, 2 at once")
    assert "3 of 3 runs done" in shown
    summary = pd.read_csv(max((tmp_path / "outputs" / "summaries").glob("*.csv")))
    assert summary["runs"].tolist() == [3]


def test_a_run_that_dies_is_told_and_the_others_are_kept(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "conf" / "attack").mkdir(parents=True)
    (tmp_path / "mine.py").write_text(KILLER)
    (tmp_path / "conf" / "attack" / "killer.yaml").write_text("_target_: mine.Killer\nguess: grey\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PRIVSWEEP_TRUST", "mine")
    assert privsweep("-m", "--config-dir", "conf", "attack=blind,killer", "at_once=2") == 1
    shown = capsys.readouterr()
    assert "1 of 2 runs did not come to their end" in shown.err
    assert "attack=killer" in shown.err
    assert len(numbers(tmp_path / "outputs")) == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_ends_all_of_them_and_nothing_counts_as_failed(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    long = [*TINY, "attack=dlg", "attack.iterations=1000000", "scale=paper", "at_once=2", "device=cpu"]
    code_ = "import sys; from privsweep.cli.entry import privsweep; sys.exit(privsweep())"
    command = [sys.executable, "-c", code_, "-m", "seed=0,1,2", *dict.fromkeys(long)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        until, beats = time.monotonic() + 90, []
        while len(beats) < 2 and time.monotonic() < until and process.poll() is None:
            time.sleep(0.1)
            beats = [*tmp_path.glob("outputs/running/[!.]*.json")]
        pids = [json.loads(path.read_text())["pid"] for path in beats]
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        _, complained = process.communicate(timeout=60)
    assert len(pids) == 2
    assert process.returncode == code
    [line] = complained.splitlines()
    assert "0 of 3 runs, 0 parts of a run): the same command goes on from there" in line
    assert not any(process_lives(pid, None) for pid in pids)
    assert not [*tmp_path.glob("outputs/failed/*"), *tmp_path.glob("outputs/running/*")]


@pytest.mark.parametrize(
    ("device", "threads", "asked", "expected"),
    [("cpu", None, None, 3), ("cpu", None, 1, 1), ("cpu", None, 8, 5), ("cpu", 2, None, 1), ("cuda", None, None, 1)],
)
def test_how_many_runs_there_are_at_once(
    device: str, threads: int | None, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five runs, on a machine with 16 processors and memory for three."""
    monkeypatch.setattr(at_once, "processors", lambda: 16)
    monkeypatch.setattr(at_once, "memory", lambda: 19 * GIB)
    session = SimpleNamespace(at_once=asked, threads=threads, resolve_device=lambda: torch.device(device))
    specs: Any = [SimpleNamespace(session=session, attack=SimpleNamespace(memory=m)) for m in (4.0, None)]
    assert Share.of(specs).at_once(5) == expected


def test_it_does_not_go_with_slurm(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    assert privsweep("-m", "seed=0,1", "hydra/launcher=slurm_cpu", "at_once=2") == 2
    assert "at_once=2: is for runs on this machine" in capsys.readouterr().err


def test_ctrl_c_while_the_helper_loads_is_for_the_command_alone(tmp_path: Path) -> None:
    """As on a terminal, where it reaches all processes; the helper loads on, and prints nothing."""
    (tmp_path / "slow.py").write_text(
        "import os, time\nopen('loading', 'w').close()\ntime.sleep(0.5)\nos.mkdir('done')\n"
    )
    code = "import time\nfrom privsweep.cli.at_once import helped\nhelped(['slow'])\n"
    code += "try:\n    time.sleep(60)\nexcept KeyboardInterrupt:\n    time.sleep(1)\n"
    command = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    while not (tmp_path / "loading").exists():
        assert command.poll() is None
        time.sleep(0.01)
    os.killpg(command.pid, signal.SIGINT)
    assert command.communicate()[1] == ""
    assert (tmp_path / "done").exists(), "it was not cut off"
