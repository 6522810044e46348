"""The command ``privsweep-store``: what it tells of an output folder, and what it removes."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from privsweep.attack.blind import Blind
from privsweep.cli import cluster, store
from privsweep.cli import main as cli
from privsweep.store import locks, sweeps
from privsweep.store.sealed import sealed, write_sealed
from privsweep.store.store import Store
from privsweep.store.sweeps import Cell, Sweep

LOG = "2026-01-02_03-04-05-678901"
OTHER = "0123456789ab"


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one_run") / "outputs"
    assert cli.main(["attack=blind", f"output_dir={root}", *TINY]) == 0
    return root


@pytest.fixture
def filled(one_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One stored run, and around it what prune is for."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "outputs"
    shutil.copytree(one_run, root)
    (root / "paper").mkdir()
    (root / "paper" / "table.md").write_text("printed")
    for kind in ("systems", "prepared"):
        (root / kind).mkdir(exist_ok=True)
        (root / kind / f"{OTHER}.safetensors").write_bytes(b"x" * 2500)
    (root / "systems" / "mine.safetensors").write_bytes(b"mine")
    (root / "logs" / LOG).mkdir()
    os.utime(root / "logs" / LOG, (0, 0))
    return root


def names(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if "locks" not in path.parts}


def run_in(root: Path) -> Path:
    [folder] = (root / "runs").iterdir()
    return folder


def rewrite(folder: Path, **changes: Any) -> None:
    record = json.loads((folder / "record.json").read_text())
    write_sealed(folder / "record.json", {**record, **changes})


def test_it_tells_sizes_counts_and_runs_by_choice(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert store.main([]) == 0
    assert store.main(["by=attack,dataset"]) == 0
    assert store.main(["runs"]) == 0
    assert store.main(["systems"]) == 0
    shown = capsys.readouterr().out
    assert "  prepared        1     2.5 kB" in shown
    assert "blind, digits" in shown
    assert "seed=0" in shown
    assert "dataset=Digits model=ConvNet fl_setting=FedAvg" in shown
    assert "mine" not in shown


def test_all_files_of_a_summary_are_told(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The picture too, and those of a second sweep that ended in the same second."""
    (filled / "summaries").mkdir()
    for name in ("2026-11-29_01-14-51", "2026-11-29_01-14-51_2"):
        for end in (".md", ".csv", ".png"):
            (filled / "summaries" / f"{name}{end}").write_bytes(b"x" * 500)
    assert store.main([]) == 0
    assert "  summaries       6     3.0 kB" in capsys.readouterr().out


def test_a_run_is_shown_by_the_beginning_of_its_signature(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign = run_in(filled).name
    assert store.main(["show", sign[:5]]) == 0
    shown = capsys.readouterr().out
    record = json.loads((run_in(filled) / "record.json").read_text())
    assert shown.startswith(f"{sign}: blind on digits, lenet_dlg, fedavg, no defence, seed 0; scale: smoke\ncomplete: ")
    for line in (
        "changed: dataset.train_size=60 dataset.test_size=20 model.width=3 fl_setting.victims=2",
        "threat model: honest-but-curious server, train time",
        f"files in outputs/runs/{sign}: images.npz, reconstructions.png, record.json, training.csv, victims.csv",
        "of 2 images recovered",
    ):
        assert line in shown
    assert all(name in shown for name in record["metrics"] if not name.endswith("_median"))
    command = shown.splitlines()[-1].partition("make it again: ")[2]
    assert cli.main([*shlex.split(command)[1:], "plan=true"]) == 0
    assert capsys.readouterr().out.splitlines()[0].startswith(f"{sign}  stored"), "it is the command of this very run"


def test_a_run_that_failed_or_is_unfinished_is_shown_too(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign = run_in(filled).name
    record = json.loads((run_in(filled) / "record.json").read_text())
    failed = {k: record[k] for k in ("signature", "choices", "scale", "threat_model", "config")}
    (filled / "failed").mkdir()
    write_sealed(filled / "failed" / f"{sign}.json", {**failed, "status": "failed", "error": "ValueError: \x1b[31m no"})
    shutil.rmtree(run_in(filled))
    (filled / "partial" / sign).mkdir(parents=True)
    (filled / "partial" / sign / "a-0-1.safetensors").touch()
    assert store.main(["show", sign, f"output_dir={filled}"]) == 0
    shown = capsys.readouterr().out
    assert r"failed: ValueError: \x1b[31m no" in shown
    assert f"unfinished: 1 file in {filled}/partial/{sign}" in shown
    assert shown.rstrip().endswith(f"output_dir={filled}")


def test_a_beginning_that_tells_no_one_run_is_refused(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sign = run_in(filled).name
    other = sign[:-1] + ("0" if sign[-1] != "0" else "1")
    shutil.copytree(run_in(filled), filled / "runs" / other)
    assert store.main(["show", sign[:4]]) == 2
    assert store.main(["show", "0" * 12]) == 2
    (filled / "runs" / other / "record.json").write_text("{")
    assert store.main(["show", other]) == 2
    several, none, spoilt = capsys.readouterr().err.splitlines()
    assert several == f"{sign[:4]}: so begin {', '.join(sorted([sign, other]))}; give more of it"
    assert none.startswith("000000000000: no run in outputs begins like that; privsweep-store runs lists them")
    assert spoilt.startswith(f"{other}: its record in outputs/runs/{other} cannot be read")


def test_prune_lists_first_and_removes_when_told(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(filled)
    assert store.main(["prune"]) == 0
    assert "nothing is removed without yes=true" in capsys.readouterr().out
    assert names(filled) == before
    assert store.main(["prune", "--yes"]) == 0
    gone = {f"systems/{OTHER}.safetensors", f"prepared/{OTHER}.safetensors", f"logs/{LOG}"}
    assert before - names(filled) == gone
    assert store.main(["prune", "yes=true"]) == 0
    assert "removed 0 of" in capsys.readouterr().out


def test_what_is_left_of_a_finished_run_goes_and_what_an_unfinished_one_needs_stays(
    filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    done = run_in(filled).name
    for sign in (done, OTHER):
        (filled / "partial" / sign).mkdir(parents=True)
    assert store.main(["prune", "yes=true"]) == 0
    assert "1 unfinished" in capsys.readouterr().out
    assert not (filled / "partial" / done).exists()
    assert (filled / "partial" / OTHER).exists()
    assert (filled / "systems" / f"{OTHER}.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda config: config["attack"].update(gone=1), "attack.gone is no key any more"),
        (lambda config: config["attack"].pop("guess"), "attack.guess is a new key"),
        (lambda config: config["attack"].update(_target_="privsweep.attack.gone.Gone"), "cannot be imported"),
        (lambda config: config.update(seed=9), "files this configuration anew"),
        (lambda config: config["attack"].update(_target_="os.system"), None),  # of somebody else's: not judged
        (lambda config: config.update(attack=[float("inf")]), None),
    ],
)
def test_a_run_that_no_command_finds_any_more_is_superseded(
    change: Any, reason: str | None, filled: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((run_in(filled) / "record.json").read_text())
    change(record["config"])
    (run_in(filled) / "record.json").write_text(json.dumps(sealed(record)))
    assert store.main(["prune"]) == 0
    shown = capsys.readouterr().out
    assert (f"runs/{record['signature']}" in shown) == (
        reason is not None or isinstance(record["config"]["attack"], list)
    )
    assert (reason or "") in shown


def test_a_run_whose_attack_has_a_component_of_its_own_stays(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    members = ["fl_setting.candidates=4", "dataset.prior_size=20", "attack.shadows=1"]
    root = tmp_path / "outputs"
    assert cli.main(["attack=shadow_membership", f"output_dir={root}", *TINY, *members]) == 0
    capsys.readouterr()
    assert store.main(["prune", f"output_dir={root}"]) == 0
    assert capsys.readouterr().out.startswith("0 of ")


def test_a_run_of_an_attack_that_answers_otherwise_now_is_superseded(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Blind, "version", 1, raising=False)
    assert store.main(["prune"]) == 0
    assert "files this configuration anew" in capsys.readouterr().out


def test_nothing_that_is_in_use_goes(filled: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(run_in(filled), config={})
    with Store(filled).lock(f"run-{run_in(filled).name}"):
        assert store.main([]) == 0
        assert "under way now" in capsys.readouterr().out
        assert store.main(["prune", "yes=true"]) == 0
        assert "1 runs are under way" in capsys.readouterr().out
        assert (filled / "systems" / f"{OTHER}.safetensors").exists()
        assert run_in(filled)
    with Store(filled).lock(f"system-{OTHER}"):
        assert store.main(["prune", "yes=true"]) == 0
        assert "1 in use stayed" in capsys.readouterr().out
    assert not (filled / "runs").exists() or not list((filled / "runs").iterdir())


def test_what_waits_in_slurms_queue_stays(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its note nobody would know of its job, and what a job that met its time limit had done would be lost."""
    cell = Cell(name="one", signature=OTHER, number=0, before=(None, None), job="41")
    sweep = Sweep(
        table="", scale="", overrides=[], config_dir=None, started="", launcher="slurm", folder=f"logs/{LOG}", host="",
        pid=0, user="me", cells=[cell],
    )  # fmt: skip
    sweeps.write(filled / "sweeps" / f"{LOG}.json", sweep)
    (filled / "partial" / OTHER).mkdir(parents=True)
    waits = [filled / "sweeps" / f"{LOG}.json", filled / "logs" / LOG, filled / "partial" / OTHER]
    waits.append(filled / "systems" / f"{OTHER}.safetensors")
    queue = {"41": ("PENDING", "Priority")}
    monkeypatch.setattr(cluster, "waiting_and_running", lambda user: queue)
    for there in (True, False):
        assert store.main(["prune", "days=0", "yes=true"]) == 0
        assert [path.exists() for path in waits] == [there] * 4
        queue.clear()


def test_a_folder_that_may_only_be_read_is_listed_and_what_cannot_go_is_told_in_a_line(
    filled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(locks, "FileLock", refused)
    assert store.main([]) == 0
    assert store.main(["prune"]) == 0
    assert f"systems/{OTHER}" in capsys.readouterr().out
    assert store.main(["prune", "yes=true"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("output_dir=outputs: cannot be used (Read-only file system); see to its permissions")


def test_neither_links_nor_what_they_lead_to_are_touched(filled: Path, tmp_path: Path) -> None:
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (filled / "partial").mkdir()
    (filled / "partial" / run_in(filled).name).symlink_to(outside)
    (filled / "failed").symlink_to(outside)
    (filled / "logs" / LOG / "link").symlink_to(outside)
    assert store.main(["prune", "yes=true", "days=0"]) == 0
    assert (outside / "kept").read_text() == "kept"
    assert (filled / "logs" / LOG / "link").is_symlink()
    assert (filled / "paper" / "table.md").exists()


def test_drafts_of_killed_processes_go_after_a_day(filled: Path) -> None:
    old, new = (filled / "runs" / f".{OTHER}.{end}" for end in ("old", "new"))
    for draft in (old, new):
        draft.mkdir()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    (filled / "systems" / f"{OTHER}.corrupt").write_bytes(b"")
    assert store.main(["prune", "yes=true"]) == 0
    assert new.exists()
    assert not old.exists()
    assert not (filled / "systems" / f"{OTHER}.corrupt").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["purge"], "purge"),
        (["show"], "show"),
        (["show", "xyz"], "show xyz"),
        (["show", "12", "34"], "show 12 34"),
        (["show", "12", "yes=true"], "yes=true"),
        (["runs", "--config-dir=conf"], "--config-dir=conf"),
        (["runs", "logs"], "runs logs"),
        (["prune", "yes"], "prune yes"),
        (["yes=true"], "yes=true"),
        (["prune", "yes=maybe"], "yes=maybe"),
        (["prune", "days=-1"], "days=-1"),
        (["prune", "days=inf"], "days=inf"),
        (["by=colour"], "by=colour"),
        (["by=attack,seed,attack"], "by=attack,seed,attack"),
        (["output_dir=/nowhere"], "output_dir=/nowhere"),
    ],
)
def test_what_it_does_not_know_is_refused_in_a_line(
    words: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs" / "locks").mkdir(parents=True)
    assert store.main(words) == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"{named}:")
