"""What has become of the cells of a sweep, told from files and, where it is there, from SLURM."""

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from privsweep.cli import cluster, status
from privsweep.cli.states import Observer
from privsweep.run.heartbeat import Heartbeat
from privsweep.run.processes import began
from privsweep.store import sweeps
from privsweep.store.sweeps import Cell, Sweep

SIGNS = {name: f"{n:012x}" for n, name in enumerate(
    ("done", "failed", "running", "pending", "requeued", "starting", "cancelled", "left", "lost", "stored", "deleted",
     "died", "silent")
)}  # fmt: skip
JOBS = {
    "failed": "8_1",
    "pending": "8_3",
    "requeued": "8_4",
    "starting": "8_5",
    "cancelled": "8_6",
    "died": "8_7",
    "silent": "8_8",
}
EXPECTED = {
    "done": ("done", ""), "failed": ("failed", "RuntimeError: no \x1b[31m memory"),
    "running": ("running", "attacking 2/8, for "), "pending": ("queued", "job 8_3: pending (Priority)"),
    "requeued": ("queued", "job 8_4: pending (BeginTime), goes on where it was cut off"),
    "starting": ("running", "job 8_5: starting"), "left": ("queued", "waits for its turn"),
    "cancelled": ("stopped", "job 8_6 ended: cancelled; slurmstepd: error: x"), "stored": ("done", ""),
    "lost": ("stopped", "its process on nowhere is gone"), "deleted": ("not run", "its record is gone"),
    "died": ("stopped", "job 8_7 ended without a result; its process died (exit code -9)"),
    "silent": ("running", "job 8_8: running, but nothing is heard of this run"),
}  # fmt: skip


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An output folder in the middle of a sweep."""
    for name in ("done", "stored"):
        (tmp_path / "runs" / SIGNS[name]).mkdir(parents=True)
        (tmp_path / "runs" / SIGNS[name] / "record.json").write_text("{}")
    (tmp_path / "failed").mkdir()
    error = {"error": "RuntimeError: no \x1b[31m memory"}
    (tmp_path / "failed" / f"{SIGNS['failed']}.json").write_text(json.dumps(error))
    (tmp_path / "failed" / f"{SIGNS['left']}.json").write_text(json.dumps({"error": "long ago"}))
    (tmp_path / "partial" / SIGNS["requeued"]).mkdir(parents=True)
    (tmp_path / "partial" / SIGNS["requeued"] / "a-0-1.safetensors").touch()
    (tmp_path / "running").mkdir()
    for name, host in (("running", socket.gethostname()), ("lost", "nowhere"), ("silent", "nowhere")):
        told = {"phase": "attacking", "done": 2, "total": 8, "host": host}
        path = tmp_path / "running" / f"{SIGNS[name]}.json"
        path.write_text(Heartbeat(tmp_path, SIGNS[name], "t")._beat.model_copy(update=told).model_dump_json())
        if name != "running":
            os.utime(path, (0, 0))
    for job, said in (
        ("8_6", "slurmstepd: error: x\nsrun: error: Killed\nsubmitit WARNING (now) - an error\nends\n"),
        ("8_7", "run 1: its process died\nrun 11: its process died (exit code -9)\nsrun: error: Exited with 1\n"),
    ):
        log = tmp_path / "logs" / "now" / ".submitit" / job / f"{job}_0_log.err"
        log.parent.mkdir(parents=True)
        log.write_text(said)
    cells = [
        Cell(
            name=f"{name}\x1b", signature=sign, number=None if name in ("stored", "deleted") else n,
            before=sweeps.stamps(tmp_path, sign) if name == "left" else (None, None), job=JOBS.get(name),
        )
        for n, (name, sign) in enumerate(SIGNS.items())
    ]  # fmt: skip
    sweep = Sweep(
        table="zen/table1", scale="quick", overrides=["scale=quick"], config_dir=None, launcher="slurm",
        started="2026-01-01T00:00:00+00:00", folder="logs/now", host=socket.gethostname(), pid=os.getpid(), user="me",
        cells=cells,
    )  # fmt: skip
    sweeps.write(tmp_path / "sweeps" / "now.json", sweep)
    asked: list[str] = []
    queue = {"8_3": ("PENDING", "Priority"), "8_4": ("PENDING", "BeginTime")}
    queue |= dict.fromkeys(("8_5", "8_8"), ("RUNNING", "None"))
    monkeypatch.setattr(cluster, "waiting_and_running", lambda user: asked.append(user) or queue)
    monkeypatch.setattr(cluster, "ended", lambda jobs: {"8_6": "CANCELLED"})
    return tmp_path


def test_every_cell_is_told(outputs: Path) -> None:
    [(path, sweep)] = sweeps.every(outputs)
    found = {s.cell.name.rstrip("\x1b"): s for s in Observer(outputs).states(sweep, path)}
    for name, (state, detail) in EXPECTED.items():
        assert found[name].state == state, name
        assert found[name].detail.startswith(detail), name
    sweeps.stop(path)
    again = {s.cell.name.rstrip("\x1b"): s for s in Observer(outputs).states(sweep, path)}
    assert (again["left"].state, again["left"].detail[:8]) == ("not run", "left out")


def test_a_sweep_is_not_taken_for_another_process_that_has_its_number_now(outputs: Path) -> None:
    [(path, sweep)] = sweeps.every(outputs)
    for begun, state in ((began(os.getpid()), "queued"), ("an earlier start 1", "not run")):
        noted = sweep.model_copy(update={"began": begun})
        assert {s.cell.name.rstrip("\x1b"): s.state for s in Observer(outputs).states(noted, path)}["left"] == state


def test_a_forced_run_that_failed_takes_nothing_from_what_is_stored(outputs: Path) -> None:
    sign = SIGNS["stored"]
    before = sweeps.stamps(outputs, sign)
    (outputs / "failed" / f"{sign}.json").write_text(json.dumps({"error": "again"}))
    [(path, sweep)] = sweeps.every(outputs)
    cells = [Cell(name=name, signature=sign, number=n, before=before) for name, n in (("later", None), ("forced", 1))]
    found = Observer(outputs).states(sweep.model_copy(update={"cells": cells}), path)
    assert [(s.state, s.detail) for s in found] == [("done", ""), ("failed", "again")]


def test_where_slurm_cannot_be_asked_that_is_said(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "waiting_and_running", lambda user: None)
    [(path, sweep)] = sweeps.every(outputs)
    found = {s.cell.name.rstrip("\x1b"): s for s in Observer(outputs).states(sweep, path)}
    assert found["cancelled"].state == "queued"
    assert "cannot be asked" in found["cancelled"].detail
    assert found["running"].state == "running"


@pytest.mark.parametrize("named", [["zen/table1"], []])
def test_the_command(outputs: Path, named: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main([*named, f"output_dir={outputs}"]) == 1
    shown = capsys.readouterr().out
    for words in (
        "zen/table1 scale=quick: 13 cells: 1 failed, 3 stopped, 3 running, 3 queued, 1 not run, 2 done",
        r"failed   failed\x1b: RuntimeError: no \x1b[31m memory", "log: ", "privsweep-report zen/table1 scale=quick",
        "scancel 8",
    ):  # fmt: skip
        assert words in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["output_dir=nowhere"], "output_dir=nowhere: no such folder"),
        (["scale=quick", "output_dir=."], "scale=quick: goes with a table"),
        (["output_dir=."], "no sweep was started there"),
    ],
)
def test_refusals(arguments: list[str], words: str, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    assert status.main(arguments) == 2
    assert words in capsys.readouterr().err


def test_a_spoilt_note_is_passed_over(outputs: Path) -> None:
    (outputs / "sweeps" / "z.json").write_text("{")
    evil = json.loads((outputs / "sweeps" / "now.json").read_text())
    evil["cells"][0]["job"] = "--help"
    (outputs / "sweeps" / "y.json").write_text(json.dumps(evil))
    assert len(list(sweeps.every(outputs))) == 1


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """An output folder in which one run of a sweep is left."""
    cell = Cell(name="the one", signature=SIGNS["running"], number=0, before=(None, None), job=None)
    sweep = Sweep(
        table="", scale="quick", overrides=[], config_dir=None, launcher="basic", started="2026-01-01T00:00:00+00:00",
        folder="logs/now", host=socket.gethostname(), pid=os.getpid(), user="me", cells=[cell],
    )  # fmt: skip
    sweeps.write(tmp_path / "sweeps" / "now.json", sweep)
    return tmp_path


def test_following_ends_when_nothing_is_under_way(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks: list[float] = []

    def later(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            (small / "runs" / SIGNS["running"]).mkdir(parents=True)
            (small / "runs" / SIGNS["running"] / "record.json").write_text("{}")

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(status.time, "sleep", later)
    assert status.main(["--follow", f"output_dir={small}"]) == 0
    shown = capsys.readouterr().out
    assert len(looks) == 2
    assert shown.index("1 queued") < shown.index("1 done")
    assert "done     the one" in shown


def test_following_ends_with_ctrl_c_and_leaves_the_last_look(
    small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(status.time, "sleep", interrupt)
    assert status.main(["--follow", f"output_dir={small}"]) == 1
    assert "queued   the one" in capsys.readouterr().out


def test_following_needs_a_terminal(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--follow", f"output_dir={small}"]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "--follow: draws in a terminal, and this output is none; leave it out"
    ]
