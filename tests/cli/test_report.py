"""The command ``privsweep-report``: tables laid out again, and the page of everything."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_world import record, table

from privsweep.cli import report, sweep
from privsweep.run.heartbeat import Beat
from privsweep.store import sweeps
from privsweep.store.atomic import write_json
from privsweep.store.images import save_images


def fake(monkeypatch: pytest.MonkeyPatch, output_dir: Path, records: dict[str, Any], scale: str = "quick") -> None:
    session = SimpleNamespace(scale=scale, output_dir=output_dir)
    planned = SimpleNamespace(
        table=table(),
        records=lambda: records,
        runs=[SimpleNamespace(spec=SimpleNamespace(session=session))],
        absent=(),
        at_papers_scale=dict,
    )
    monkeypatch.setattr(sweep, "stored", lambda name, overrides, config_dir=None: planned)


def fill(root: Path) -> None:
    """A store with two runs, one that failed, and what is spoilt."""
    for seed in (0, 1):
        folder = root / "runs" / f"{seed:012x}"
        write_json(folder / "record.json", record(seed, 0.5))
        save_images(folder, np.zeros((1, 1, 1, 8, 8)), np.zeros((1, 1, 1, 8, 8)), {})
    sign = f"{2:012x}"
    write_json(root / "failed" / f"{sign}.json", {"signature": sign, "status": "failed", "error": "ValueError: <b>"})
    (root / "runs" / "spoilt").mkdir()
    (root / "runs" / "spoilt" / "record.json").write_text("{")


def test_a_table_is_laid_out_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = {f"{c}-s{s}": record(s, 0.5 + s / 10) for c in ("one", "two") for s in (0, 1)}
    fake(monkeypatch, tmp_path, full)
    assert report.main(["zen/table1", "scale=quick"]) == 0
    assert "0.55 ± 0.07 (2)" in capsys.readouterr().out
    assert (tmp_path / "paper/zen/table1.quick.md").is_file()
    fake(monkeypatch, tmp_path, {**full, "two-s1": None})
    assert report.main(["experiment=zen/table1", "scale=quick"]) == 1


def test_an_empty_table_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, tmp_path, {})
    assert report.main(["zen/table1", "scale=quick"]) == 1
    assert "run: privsweep experiment=zen/table1 scale=quick" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    own = tmp_path / "my conf"
    own.mkdir()
    assert report.main(["zen/table1", f"--config-dir={own}"]) == 1
    assert f"run: privsweep --config-dir '{own}' experiment=zen/table1\n" in capsys.readouterr().err


def test_an_empty_table_says_at_which_scale_there_are_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, tmp_path, {"one-s0": record(0, 0.5)})
    smoke = sweep.stored("zen/table1", [])
    fake(monkeypatch, tmp_path, {})
    empty = sweep.stored("zen/table1", [])
    monkeypatch.setattr(sweep, "stored", lambda _, given, config_dir: smoke if "scale=smoke" in given else empty)
    assert report.main(["zen/table1", "seed=3"]) == 1
    said = capsys.readouterr().err
    assert "of scale=smoke 1 of 4 are: privsweep-report zen/table1 seed=3 scale=smoke" in said
    assert said.count("of scale=") == 1


def refusing(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Nothing can be written below ``root`` any more."""
    make = tempfile.mkstemp

    def mkstemp(dir: Path, **rest: Any) -> Any:
        if dir.is_relative_to(root):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(dir))
        return make(dir=dir, **rest)

    monkeypatch.setattr(tempfile, "mkstemp", mkstemp)


def test_a_table_of_a_store_that_may_only_be_read_is_shown_and_written_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, mine = tmp_path / "outputs", tmp_path / "mine"
    fake(monkeypatch, outputs, {f"{c}-s{s}": record(s, 0.5 + s / 10) for c in ("one", "two") for s in (0, 1)})
    refusing(monkeypatch, outputs)
    assert report.main(["zen/table1", "scale=quick"]) == 1
    shown = capsys.readouterr()
    assert "0.55 ± 0.07 (2)" in shown.out
    [line] = shown.err.splitlines()
    assert (
        line
        == f"{outputs}: the table cannot be written there (Read-only file system); name another folder with --to=FOLDER"
    )
    assert report.main(["zen/table1", "scale=quick", f"--to={mine}"]) == 0
    assert (mine / "paper/zen/table1.quick.md").is_file()


def test_the_page_of_a_store_that_may_only_be_read_goes_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs, mine = tmp_path / "outputs", tmp_path / "mine"
    fill(outputs)
    fake(monkeypatch, outputs, {f"{c}-s{s}": record(s, 0.5) for c in ("one", "two") for s in (0, 1)})
    assert report.main(["zen/table1", "scale=quick"]) == 0
    refusing(monkeypatch, outputs)
    capsys.readouterr()
    assert report.main([f"output_dir={outputs}"]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.endswith("report.html: cannot be written (Read-only file system); name another folder with --to=FOLDER")
    assert report.main([f"output_dir={outputs}", "--to", str(mine)]) == 0
    assert 'href="../outputs/paper/zen/table1.quick.md"' in (mine / "report.html").read_text()


def test_the_page_composes_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(tmp_path)
    monkeypatch.setattr(sweep, "stored", lambda *given: pytest.fail("composes a table"))
    assert report.main([f"output_dir={tmp_path}"]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {tmp_path}")
    html = (tmp_path / "report.html").read_text()
    assert "3 runs" in html
    assert ">1 failed</a>" in html
    assert html.index('"id":"000000000001"') < html.index('"id":"000000000000"')  # newest first
    assert html.index('id="runs"') < html.index("never run here</summary>")  # what was run comes first


def test_the_page_shows_what_is_in_progress(tmp_path: Path) -> None:
    sign = f"{7:012x}"
    beat = Beat(
        signature=sign, title="dlg on digits", host=socket.gethostname(), pid=os.getpid(), job="5_1",
        since=time.time() - 200, phase="attacking", done=3, total=9,
    )  # fmt: skip
    (tmp_path / "running").mkdir()
    (tmp_path / "running" / f"{sign}.json").write_text(beat.model_dump_json())
    cell = sweeps.Cell(name="lenet-s0", signature=sign, number=0, before=(None, None))
    sweep = sweeps.Sweep(
        table="zen/table1", scale="quick", overrides=[], config_dir=None, started="", launcher="", folder="logs",
        host="", pid=1, user="me", cells=[cell],
    )  # fmt: skip
    sweeps.write(tmp_path / "sweeps" / "now.json", sweep)
    assert report.main([f"output_dir={tmp_path}"]) == 0
    html = (tmp_path / "report.html").read_text()
    assert "zen/table1 lenet-s0" in html
    assert f"3 of 9, for 3 min, on {beat.host}, job 5_1<" in html


@pytest.mark.parametrize(
    ("asked", "tables", "overrides"),
    [
        (["zen/table1", "scale=quick"], ["zen/table1"], ["scale=quick"]),
        (["experiment=zen/table1,zen/fig1"], ["zen/table1", "zen/fig1"], []),
        (["zen/table1", "--config-dir", "x", "experiment=zen/table1"], ["zen/table1"], []),
        (["a=b=c", "defense=[a,b]", "zen/fig1"], ["zen/fig1"], ["a=b=c", "defense=[a,b]"]),
        ([], [], []),
    ],
)
def test_arguments_are_told_apart(asked: list[str], tables: list[str], overrides: list[str]) -> None:
    found = report.request(asked)
    assert (list(found.tables), list(found.overrides)) == (tables, overrides)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
        (["-x", "zen/table1"], "unrecognized arguments: -x"),
        (["--config"], "unrecognized arguments: --config"),
        (["--config-dir"], "--config-dir: expected one argument"),
        (["--config-dir=/nowhere"], "--config-dir=/nowhere: no such folder"),
        (["--config-dir=/nowhere", "zen/table1"], "--config-dir=/nowhere: no such folder"),
        (["model=lenet"], "model=lenet: the page of everything takes"),
        (["~scale"], "~scale: is no table"),
        (["~scale=quick"], "~scale=quick: the page"),
        (["scale=quick,paper"], "scale=quick,paper: the page"),
        (["scale=large"], "scale=large: choose one of paper"),
        (["output_dir=none"], "output_dir=none: no runs are stored there"),
        (["output_dir="], "output_dir=: "),
        (["output_dir=/proc/self/status"], "output_dir=/proc/self/status: "),
        (["output_dir=" + 300 * "x"], ": "),
        (["="], "=: "),
        ([""], ": is no table"),
        (["two words"], "two words: is no table"),
        (["../x"], "../x: is no table"),
        (["experiment="], "experiment=: names no table"),
        (["experiment=null"], "experiment=null: names no table"),
        (["zen/tabel1"], "zen/tabel1: no such table; did you mean zen/table1?"),
        (["zen"], "zen: no such table; "),
        (["zen/table1", "to=x"], "to=x: is a flag of this command; write --to=x"),
        (["config_dir=x"], "config_dir=x: is a flag of this command; write --config-dir=x"),
        (["zen/table1", "model=["], "model=[: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    asked: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert report.main(asked) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    assert error.startswith("privsweep-report: ")
    assert says in error
    assert not list(tmp_path.iterdir())
