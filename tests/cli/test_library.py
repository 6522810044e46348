"""privsweep from Python: sweeps, failures within them, and records as one frame."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from tiny import TINY

import privsweep
from privsweep.attack.gradient_matching import GradientMatching

ROOT = Path(__file__).parents[2]
FEW = [*TINY, "fl_setting.rounds=0"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_sweep_is_a_frame_and_nothing_runs_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = privsweep.sweep("attack=blind", "seed=1,0", *FEW)
    assert frame[["attack", "seed"]].to_numpy().tolist() == [["blind", 1], ["blind", 0]]
    assert set(frame["status"]) == {"complete"}
    assert "error" not in frame
    monkeypatch.setattr("privsweep.cli.library.run", lambda spec: pytest.fail("run again"))
    pd.testing.assert_frame_equal(privsweep.sweep("attack=blind", "seed=1,0", *FEW), frame)


def test_configuration_values_stand_beside_metrics() -> None:
    privsweep.sweep("attack=dlg", "attack.lr=0.5,1.0", "fl_setting.checkpoints=[0]", *FEW)
    privsweep.sweep("attack=none", "defense=[noisy_gradients]", "fl_setting.checkpoints=[]", *FEW)
    stored = privsweep.records()
    dotted = {name for name in stored if "." in name}
    assert dotted == {"attack.lr", "fl_setting.checkpoints"}
    assert sorted(stored["attack.lr"].dropna()) == [0.5, 1.0]
    assert stored.groupby("fl_setting.checkpoints").size().to_dict() == {"[0]": 2, "[]": 1}
    named = privsweep.records(config=["defense.noisy_gradients.sigma"])
    assert named["defense.noisy_gradients.sigma"].notna().sum() == 1
    assert not {name for name in privsweep.records(config=[]) if "." in name}
    pd.testing.assert_frame_equal(privsweep.records(config="attack.lr"), privsweep.records(config=["attack.lr"]))
    with pytest.raises(privsweep.UserError, match=r"config=attack\.lrr: no stored run .* did you mean attack\.lr\?"):
        privsweep.records(config="attack.lrr")


def test_files_of_one_choice_are_told_apart() -> None:
    digits = load_digits()
    images, labels = (digits.images * 15).astype(np.uint8), digits.target[:, None]
    for name, first in (("a", 0), ("b", 800)):
        split = [slice(first, first + 600), slice(first + 600, first + 800)]
        parts = {f"{n}_images": images[s] for n, s in zip(("train", "test"), split, strict=True)}
        parts |= {f"{n}_labels": labels[s] for n, s in zip(("train", "test"), split, strict=True)}
        np.savez(f"{name}.npz", **parts)
    frame = privsweep.sweep("attack=blind", "dataset=npz", "dataset.path=a.npz,b.npz", *FEW)
    assert frame["dataset"].tolist() == ["npz", "npz"]
    assert frame["dataset.fingerprint"].nunique() == 2


def test_a_run_that_fails_is_a_row_and_the_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("out of luck\nand more")

    monkeypatch.setattr(GradientMatching, "__call__", broken)
    frame = privsweep.sweep("attack=dlg,none", *FEW)
    assert frame["status"].tolist() == ["failed", "complete"]
    assert frame["error"][0] == "RuntimeError: out of luck"


def test_what_is_refused_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(privsweep.UserError, match="attack=dgl"):
        privsweep.sweep("attack=dlg,dgl", *FEW)
    assert not (tmp_path / "outputs" / "runs").exists()


def test_a_table_is_swept_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    conf = tmp_path / "conf" / "experiment"
    conf.mkdir(parents=True)
    (conf / "mine.yaml").write_text(
        "# @package _global_\n"
        "table:\n  title: Mine\n  place: here\n  seeds: [0]\n"
        "  rows: {mse: {label: MSE, metric: mse}}\n"
        "  columns: {a: {label: A, overrides: [attack=none]}, b: {label: B, overrides: [attack=blind]}}\n"
    )
    frame = privsweep.sweep("experiment=mine", *FEW, config_dir="conf")
    assert frame["run"].tolist() == ["a-s0", "b-s0"]
    assert frame["attack"].tolist() == ["none", "blind"]


def test_the_example_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["example.py", *FEW[:3], "scale=smoke"])
    runpy.run_path(str(ROOT / "scripts" / "example.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "gradient_quantization" in said
    assert "attack.labels" in said
    assert "server" in said


def test_what_a_notebook_may_mistake_is_told(tmp_path: Path) -> None:
    with pytest.raises(privsweep.UserError, match=r"execute\(compose\('attack=dlg'\)\)"):
        privsweep.execute("attack=dlg")
    with pytest.raises(privsweep.UserError, match="nowhere: no such folder"):
        privsweep.records(tmp_path / "nowhere")
    for function in (privsweep.compose, privsweep.sweep):
        name = function.__name__
        with pytest.raises(privsweep.UserError, match=rf"write {name}\(\*\['attack=dlg'\]\)"):
            function(["attack=dlg"])
        with pytest.raises(privsweep.UserError, match=rf"{name}\(3\): takes strings; write {name}\('attack=dlg'"):
            function(3)
        with pytest.raises(privsweep.UserError, match=f"plan=true: {name} lists no runs, .*; leave it out"):
            function("plan=true", *FEW)
        for key, does in (("launcher=slurm_cpu", "submits nothing"), ("sweeper=search", "makes no search")):
            with pytest.raises(privsweep.UserError, match=f"hydra/{key}: {name} {does}, the command .*; leave it out"):
                function(f"hydra/{key}", *FEW)
    with pytest.raises(privsweep.UserError, match=r"^seed=0,1: has several values, .* write sweep\('seed=0,1'\)"):
        privsweep.compose("attack=dlg", "seed=0,1")
    assert not (tmp_path / "outputs").exists()
    with pytest.raises(privsweep.UserError, match=r"experiment=zen/table1: .* write sweep\('experiment=zen/table1'\)"):
        privsweep.compose("experiment=zen/table1")
