"""A run's sign of life: there while it runs, gone when it ends, told apart from what a dead process left."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from privsweep.run import heartbeat
from privsweep.run.heartbeat import Heartbeat, beats

SIGN = "0123456789ab"


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:  # type: ignore[operator]
        time.sleep(0.005)


def test_it_says_how_far_a_run_is_and_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(heartbeat, "EVERY_SECONDS", 0.01)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")

    def interrupted() -> None:
        with Heartbeat(tmp_path, SIGN, "dlg on digits") as beating:
            beating.tell("attacking", 3, 9)
            wait_for(lambda: SIGN in beats(tmp_path) and beats(tmp_path)[SIGN][0].done == 3)
            beat, lives = beats(tmp_path)[SIGN]
            assert lives
            assert beat.job == "7_3"
            assert beat.told.startswith("attacking 3/9, for 0 s, on ")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list((tmp_path / heartbeat.FOLDER).iterdir())


def test_a_short_run_leaves_no_trace(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, SIGN, "title"):
        pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("host", "age", "lives"), [("", 0, False), ("elsewhere", 0, True), ("elsewhere", 500, False)])
def test_what_a_dead_process_left_is_no_sign_of_life(tmp_path: Path, host: str, age: float, lives: bool) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    beat = Heartbeat(tmp_path, SIGN, "title")._beat.model_copy(
        update={"pid": dead.pid, **({"host": host} if host else {})}
    )
    (tmp_path / heartbeat.FOLDER).mkdir()
    path = tmp_path / heartbeat.FOLDER / f"{SIGN}.json"
    path.write_text(beat.model_dump_json())
    os.utime(path, (time.time() - age,) * 2)
    (path.parent / "spoilt.json").write_text('{"pid": "x"}')
    assert {sign: alive for sign, (_, alive) in beats(tmp_path).items()} == {SIGN: lives}
