"""``force=true`` from two commands at once: what one of them has made meanwhile, the other takes."""

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Privsweep
from tiny import BLIND_TABLE, small_table

from privsweep.attack.blind import Blind
from privsweep.store.store import Store


@pytest.fixture
def attacked(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """Grows with every attack that is carried out; at the next one, what stands in it last is called."""
    original, calls = Blind.__call__, []  # type: ignore[var-annotated]

    def call(self: Blind, *arguments: Any) -> Any:
        if calls:
            calls[-1]()
        calls.append(lambda: None)
        return original(self, *arguments)

    monkeypatch.setattr(Blind, "__call__", call)
    return calls


def made_again(record: Path) -> None:
    """As a second process leaves it: the same, written later."""
    os.utime(record, ns=(0, record.stat().st_mtime_ns + 1))


def test_a_forced_run_waits_for_another_and_takes_what_that_has_made(
    tmp_path: Path, privsweep: Privsweep, attacked: list[Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert privsweep("attack=blind") == 0
    [record] = tmp_path.glob("outputs/runs/*/record.json")
    locked, said = threading.Event(), []
    monkeypatch.setattr("privsweep.store.locks.say", said.append)

    def other() -> None:
        with Store(Path("outputs")).lock(f"run-{record.parent.name}"):
            locked.set()
            while not said:
                time.sleep(0.01)
            made_again(record)

    thread = threading.Thread(target=other)
    thread.start()
    locked.wait()
    assert privsweep("attack=blind", "force=true") == 0
    thread.join()
    assert len(attacked) == 1
    assert said == [f"run {record.parent.name} is in work in another process; waiting for it"]
    assert "since this command began; not repeated" in capsys.readouterr().out


def test_a_forced_sweep_takes_what_was_made_since_it_began(
    tmp_path: Path, privsweep: Privsweep, attacked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ("-m", "attack=blind", "attack.guess=noise,grey")
    assert privsweep(*sweep) == 0
    runs = {*tmp_path.glob("outputs/runs/*/record.json")}
    stamps = {path: path.stat().st_mtime_ns for path in runs}
    last = max(runs, key=stamps.__getitem__)
    attacked[-1] = lambda: made_again(last)  # while the first is repeated
    assert privsweep(*sweep, "force=true") == 0
    assert len(attacked) == 3  # the first again
    assert capsys.readouterr().out.count("since this command began") == 1
    assert all(path.stat().st_mtime_ns > stamps[path] for path in runs)


def test_a_forced_table_that_is_done_is_a_success(
    tmp_path: Path, privsweep: Privsweep, attacked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    table = small_table(tmp_path, BLIND_TABLE)
    assert privsweep(*table, "only=[grey]") == 0
    assert privsweep(*table, "only=[grey]", "force=true") == 0
    assert privsweep(*table, "force=true") == 0
    assert len(attacked) == 4
    assert "2 of 2 runs complete" in capsys.readouterr().out
