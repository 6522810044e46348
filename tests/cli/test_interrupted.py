"""Runs and sweeps that are cut off: what is said, what is kept, and that the same command completes them."""

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import Privsweep
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import OmegaConf, open_dict
from safetensors import safe_open
from tiny import BLIND_TABLE, small_table

from privsweep.attack.blind import Blind
from privsweep.attack.gradient_matching import GradientMatching
from privsweep.cli import main as cli
from privsweep.cli import states, status
from privsweep.cli.interrupts import put_off
from privsweep.run.workbench import Workbench
from privsweep.store import atomic
from privsweep.store.store import Store

CHUNKED = ("attack=dlg", "attack.iterations=2", "fl_setting.victims=3", "attack.memory=0.000001")


@pytest.fixture
def table(tmp_path: Path) -> tuple[str, ...]:
    return small_table(tmp_path, BLIND_TABLE)


def at_call(number: int, act: Callable[[], Any], cls: type, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets ``act`` happen at the beginning of that call of an attack; calling the answer takes it back."""
    original, calls = cls.__call__, []  # type: ignore[attr-defined, var-annotated]

    def call(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            act()
        return original(self, *arguments)

    monkeypatch.setattr(cls, "__call__", call)
    return lambda: monkeypatch.setattr(cls, "__call__", original)


def stored(root: Path) -> dict[str, dict[str, Any]]:
    found = {path.parent.name: json.loads(path.read_text()) for path in root.glob("outputs/runs/*/record.json")}
    return {sign: {k: r[k] for k in ("metrics", "utility", "files")} for sign, r in found.items()}


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_in_one_line_what_is_kept_and_goes_on(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals, code: int,
) -> None:  # fmt: skip
    before = signal.getsignal(number)
    restore = at_call(3, lambda: os.kill(os.getpid(), number), GradientMatching, monkeypatch)
    assert privsweep(*CHUNKED) == code
    assert signal.getsignal(number) is before
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("privsweep: interrupted; what was finished is kept in outputs (2 parts of a run)")
    words = shlex.split(line.partition("goes on from there: ")[2])
    assert words[0] == "privsweep"
    assert set(CHUNKED) < set(words)
    assert not list(tmp_path.glob("outputs/failed/*"))
    parts = [safe_open(path, "pt").metadata()["privsweep"] for path in tmp_path.glob("outputs/partial/*/*")]
    spent = sum(json.loads(notes)["seconds"] for notes in parts)
    restore()
    again = at_call(2, lambda: pytest.fail("only the third victim is left"), GradientMatching, monkeypatch)
    assert privsweep(*CHUNKED) == 0
    again()
    assert not list(tmp_path.glob("outputs/partial/*"))
    [record] = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/record.json")]
    assert record["seconds"]["attack"] > spent > 0  # the interrupted process's work is counted, too


def test_an_interrupted_table_says_how_many_runs_are_stored(
    tmp_path: Path, privsweep: Privsweep, table: tuple[str, ...], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    restore = at_call(2, lambda: os.kill(os.getpid(), signal.SIGINT), Blind, monkeypatch)
    assert privsweep(*table) == 130
    [line] = capsys.readouterr().err.splitlines()
    assert "1 of 2 runs, 0 parts" in line
    assert len(stored(tmp_path)) == 1
    said = shlex.split(line.partition("goes on from there: ")[2])
    monkeypatch.setattr(states, "process_lives", lambda pid, began: False)
    assert status.main([]) == 1
    [told] = [row for row in capsys.readouterr().out.splitlines() if row.startswith("go on with it: ")]
    assert shlex.split(told.removeprefix("go on with it: ")) == said
    restore()
    assert cli.main(said[1:]) == 0
    assert len(stored(tmp_path)) == 2
    capsys.readouterr()
    assert status.main([]) == 0
    assert "go on" not in capsys.readouterr().out


def test_the_command_that_goes_on_with_a_sweep_is_for_any_folder_and_keeps_no_secret(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = at_call(2, lambda: os.kill(os.getpid(), signal.SIGINT), Blind, monkeypatch)
    typed = ["-m", "attack=blind", "attack.guess=noise,grey", "+hydra.job.env_set.KEY=secret", "output_dir=my results"]
    assert privsweep(*typed) == 130
    assert "+hydra.job.env_set.KEY=secret" in capsys.readouterr().err
    restore()
    monkeypatch.setattr(states, "process_lives", lambda pid, began: False)
    notes = "".join(path.read_text() for path in tmp_path.glob("my results/sweeps/*"))
    assert notes
    assert "secret" not in notes
    (tmp_path / "else where").mkdir()
    monkeypatch.chdir(tmp_path / "else where")
    assert status.main(["output_dir=../my results"]) == 1
    said = capsys.readouterr().out
    [line] = [row for row in said.splitlines() if row.startswith("go on with it: ")]
    assert line.startswith(f"go on with it: cd {shlex.quote(str(tmp_path))} && privsweep -m ")
    assert {"attack.guess=noise,grey", "output_dir=my results", "+hydra.job.env_set.KEY=YOUR_VALUE"} < {
        *shlex.split(line)
    }
    assert "in place of YOUR_VALUE what you gave +hydra.job.env_set.KEY" in said


def test_a_full_disk_is_one_line_and_a_rerun_completes(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second chunk of victims, the record, and the note of the failure too find no room."""
    flush, kept = atomic._flush, []  # type: ignore[var-annotated]

    def full(path: Path) -> None:
        kept.append(path)
        if len(kept) > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        flush(path)

    monkeypatch.setattr(atomic, "_flush", full)
    assert privsweep(*CHUNKED) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("privsweep: output_dir=outputs: no room for results (No space left on device)")
    assert not list(tmp_path.rglob("outputs/[!l]*/.*"))  # no drafts
    monkeypatch.setattr(atomic, "_flush", flush)
    assert privsweep(*CHUNKED) == 0
    assert len(stored(tmp_path)) == 1


def test_victims_that_do_not_fit_the_memory_together_come_out_the_same(
    tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = ("attack=dlg", "attack.iterations=1", "fl_setting.victims=3")
    assert privsweep(*together) == 0
    [plain] = [pd.read_csv(path) for path in tmp_path.glob("outputs/runs/*/victims.csv")]
    original = GradientMatching.__call__

    def small(self: GradientMatching, seen: Any, *arguments: Any) -> Any:
        if len(seen.victims) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, seen, *arguments)

    monkeypatch.setattr(GradientMatching, "__call__", small)
    assert privsweep(*together, "force=true") == 0
    [record] = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/record.json")]
    assert record["environment"]["chunks"]["attack"] == 1
    [halved] = [pd.read_csv(path) for path in tmp_path.glob("outputs/runs/*/victims.csv")]
    pd.testing.assert_frame_equal(plain, halved, rtol=1e-3)


def test_a_table_that_another_process_is_at_is_begun_at_the_other_end(
    tmp_path: Path, privsweep: Privsweep, table: tuple[str, ...], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The other one is at the first cell until this one is at the second."""
    begun: list[str] = []
    original = Workbench.__init__

    def noted(self: Workbench, device: torch.device, store: Store, sign: str, *rest: Any) -> None:
        begun.append(sign)
        original(self, device, store, sign, *rest)

    monkeypatch.setattr(Workbench, "__init__", noted)
    assert privsweep(*table) == 0
    first, second = begun
    begun.clear()
    runs = tmp_path / "outputs" / "runs"
    shutil.rmtree(runs / second)
    record = (runs / first / "record.json").rename(tmp_path / "first.json")
    locked, said = threading.Event(), []
    monkeypatch.setattr("privsweep.store.locks.say", lambda line: said.append((line, list(begun))))

    def other() -> None:
        with Store(Path("outputs")).lock(f"run-{first}"):
            locked.set()
            while not said:
                time.sleep(0.01)
            record.rename(runs / first / "record.json")

    thread = threading.Thread(target=other)
    thread.start()
    locked.wait()
    assert privsweep(*table) == 0
    thread.join()
    assert said == [(f"run {first} is in work in another process; waiting for it", [second])]
    assert begun == [second]


def test_ctrl_c_while_it_composes_is_no_mistake_in_the_values(
    privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: Any) -> None:
        with open_dict(OmegaConf.create({"attack": {}})) as cfg:
            cfg.__dict__["_metadata"] = None  # halfway: what tidies up after it fails, too
            raise KeyboardInterrupt

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", interrupted)
    assert privsweep() == 130
    assert "interrupted before anything ran" in capsys.readouterr().err


def test_ctrl_c_that_is_put_off_does_not_reach_what_is_started() -> None:
    """As sbatch, which takes jobs to the cluster and would no longer say their number."""
    code = "import signal, sys; sys.exit(signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    after = []
    with pytest.raises(KeyboardInterrupt), put_off():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        subprocess.run([sys.executable, "-S", "-c", code], check=True)
        after.append("went on")
    assert after
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
