"""What ``plan=true`` shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Privsweep, make_members
from PIL import Image
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


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("dataset.train_size=2000", "train_size=2000 and dataset.prior_size=0 do not fit into 1438 training images"),
        ("fl_setting.clients=61", "fl_setting.clients=61: the dataset has 60 training examples"),
        ("fl_setting.victims=30", "fl_setting.victims=30: with fl_setting.capture.batch_size=1 they need 30 examples"),
        ("model=vgg16", "8x8 pixels are too few"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_of_one_run_and_named_of_several(
    typed: str, words: str, tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep(typed, "plan=true") == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("privsweep: ")
    assert words in line
    assert privsweep(typed) == 2
    assert capsys.readouterr().err.splitlines() == [line], "a run is refused in the words of its plan"
    key, _, value = typed.partition("=")
    good = {"model": "lenet", "dataset.train_size": "60"}.get(key, "2")
    for plan in (["plan=true"], []):
        assert privsweep("-m", f"{key}={good},{value}", "seed=0,1", *plan) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith(f"privsweep: {typed} seed=")
        assert words in line
    assert not (tmp_path / "outputs").exists()


def test_a_value_that_is_refused_already_is_not_named_twice(
    privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("-m", "fl_setting.rounds=1", "fl_setting.capture.round=1,2", "attack=dlg", "plan=yes") == 2
    assert "privsweep: fl_setting.capture.round=2: weights are kept" in capsys.readouterr().err


def test_an_objective_that_nobody_goes_by_is_told(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert privsweep("objective=metrics.mse", "attack=blind", "plan=yes") == 0
    assert "objective=metrics.mse: not used without hydra/sweeper=search" in capsys.readouterr().out


def test_the_cell_of_a_table_that_does_not_fit_its_data_is_named(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    table = small_table(tmp_path, TABLE.replace("[attack.guess=noise]", "[fl_setting.clients=61]"))
    for plan in (["plan=true"], []):
        assert privsweep(*table, *plan) == 2
        assert capsys.readouterr().err.startswith("privsweep: noise-s0: fl_setting.clients=61: the dataset has 60")


def test_a_plan_reads_no_pixels_and_says_what_it_did_not_check(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(40):
        path = tmp_path / "images" / "ab"[n % 2] / f"{n:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), n, np.uint8)).save(path)
    path.write_bytes(b"no image")
    own = ("dataset=folder", "dataset.path=images", "dataset.train_size=20", "dataset.test_size=4")
    assert privsweep(*own, "plan=true") == 0
    assert capsys.readouterr().err == ""
    assert privsweep(*own) == 2
    assert "39.png is no readable image" in capsys.readouterr().err
    assert privsweep("dataset=npz", "dataset.path=gone.npz", "plan=true") == 2
    capsys.readouterr()
    np.savez(tmp_path / "mine.npz", **make_members(size=(8, 8)))
    own = ("dataset=npz", "dataset.path=mine.npz", "dataset.train_size=20", "dataset.test_size=4", "attack=none")
    assert privsweep(*own) == 0
    (tmp_path / "mine.npz").unlink()
    capsys.readouterr()
    assert privsweep(*own, "seed=1", "plan=true") == 0
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("not checked against its data: dataset.path=mine.npz: no such file")


OWN = """
import torch
from privsweep import AttackBase, Reconstruction, ThreatModel, Update, component

@component
class Own(AttackBase):
    observes = Update
    needs = frozenset({"domain", "prior"})
    threat = ThreatModel(frozenset({"train"}), frozenset({"server"}), "white-box")

    def fits(self, model, domain, prior):
        return "the prior is dark" if prior.images.max().item() < 256 else None

    def __call__(self, seen, known, prepared, bench, rng):
        raise NotImplementedError
"""


def test_an_own_attack_may_look_at_pixels_before_it_runs(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dark_attack.py").write_text(OWN)
    (tmp_path / "conf" / "attack").mkdir(parents=True)
    (tmp_path / "conf" / "attack" / "own.yaml").write_text("_target_: dark_attack.Own\n")
    np.savez(tmp_path / "mine.npz", **make_members(size=(8, 8)))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PRIVSWEEP_TRUST", "dark_attack")
    own = ("dataset=npz", "dataset.path=mine.npz", "dataset.train_size=20", "dataset.test_size=4")
    asked = ("--config-dir", str(tmp_path / "conf"), "attack=own", *own, "dataset.prior_size=9", "plan=true")
    assert privsweep(*asked) == 2
    assert capsys.readouterr().err == "privsweep: the prior is dark\n"


@pytest.mark.parametrize("folder", ["taken", "taken/outputs"])
def test_a_file_in_the_place_of_the_output_folder_is_found_by_a_plan_too(
    folder: str, tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").touch()
    for plan in ("true", "false"):
        assert privsweep("attack=blind", f"output_dir={folder}", f"plan={plan}") == 2
        assert capsys.readouterr().err == f"privsweep: output_dir={folder}: taken is no folder; name another\n"
