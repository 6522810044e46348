"""The command as a user types it."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from conftest import Privsweep
from PIL import Image
from tiny import TINY, small_table

from privsweep.cli import report
from privsweep.exposure.black_box import BlackBoxView
from privsweep.interface.data import ImageSet
from privsweep.interface.truth import Membership
from privsweep.run.compose import CONF

TABLE = """\
# @package _global_
defaults:
  - override /attack: blind
table:
  title: A small table
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
    accuracy: {label: Accuracy, metric: utility.test_accuracy, format: ".1%"}
  columns:
    noise: {label: Noise, overrides: [attack.guess=noise]}
    grey: {label: Grey, overrides: [attack.guess=grey]}
    defended: {label: Defended, overrides: ["defense=[noisy_gradients]"]}
  seeds: [0, 1]
  printed: {mse: {noise: "0.2"}}
  findings:
    - {id: f1, claim: Grey is nearer, check: "v('mse', 'grey') < v('mse', 'noise')", holds_in_print: null}
"""


def records(root: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(root.glob("outputs/runs/*/record.json"))]


@pytest.fixture
def table(tmp_path: Path) -> tuple[str, ...]:
    return small_table(tmp_path, TABLE)


def test_a_run_writes_its_record_its_tables_and_its_pictures(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("attack=dlg", "attack.iterations=2") == 0
    [record] = records(tmp_path)
    assert record["status"] == "complete"
    assert record["choices"]["attack"] == "dlg"
    assert record["threat_model"] == {
        "time": "train", "position": "server", "access": "white-box", "security": "honest-but-curious"
    }  # fmt: skip
    assert {"mse", "psnr", "ssim", "asr", "iterations_to_zero", "gradient_distance"} <= set(record["metrics"])
    assert "mse_paper" not in record["metrics"]  # no paper's scale was chosen
    seen = {"train_accuracy", "test_accuracy"}  # of the untrained model, which is attacked
    assert set(record["utility"]) == {*seen, *(f"final_{name}" for name in seen)}
    folder = tmp_path / "outputs" / "runs" / record["signature"]
    victims = pd.read_csv(folder / "victims.csv")
    assert len(victims) == 2
    assert victims["mse"].mean() == pytest.approx(record["metrics"]["mse"])
    assert {"iteration", "victim", "gradient_distance"} <= set(pd.read_csv(folder / "curve.csv").columns)
    for picture in ("reconstructions.png", "curve.png"):
        with Image.open(folder / picture) as image:
            assert min(image.size) > 100
    shown = capsys.readouterr().out
    for word in ("threat model: honest-but-curious server", "device: ", "test accuracy", "ssim", str(folder.name)):
        assert word in shown
    assert "gradient_mse" not in shown
    answer, see, goes_on = shown.splitlines()[-3:]
    assert "of 2 images recovered (SSIM above 0.9)" in answer
    assert see.endswith("reconstructions.png")
    assert goes_on.startswith("next: privsweep attack=dlg attack.iterations=2")
    assert privsweep("attack=dlg", "attack.iterations=2", "verbose=true") == 0
    shown = capsys.readouterr().out
    assert "stored on" in shown
    assert "gradient_mse" in shown


def test_the_same_command_runs_nothing_and_force_gives_the_same_numbers(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("attack=dlg", "attack.iterations=3")
    assert privsweep(*command) == 0
    [first] = records(tmp_path)
    assert privsweep(*command) == 0
    assert "force=true runs it again" in capsys.readouterr().out
    assert records(tmp_path) == [first]
    for system in (tmp_path / "outputs" / "systems").iterdir():
        system.unlink()
    assert privsweep(*command, "force=true") == 0
    [second] = records(tmp_path)
    for timed in ("seconds", "environment", "checksum"):
        del first[timed], second[timed]
    assert first == second


def test_utility_alone(tmp_path: Path, privsweep: Privsweep) -> None:
    assert privsweep("attack=none") == 0
    [record] = records(tmp_path)
    assert record["metrics"] == {}
    assert record["utility"]["test_accuracy"] >= 0


def test_a_sweep_ends_in_a_summary_over_seeds(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("-m", "attack=blind", "attack.guess=noise,grey", "seed=0,1") == 0
    assert len(records(tmp_path)) == 4
    [summary] = (tmp_path / "outputs" / "summaries").glob("*.csv")
    frame = pd.read_csv(summary)
    assert list(frame["attack.guess"]) == ["noise", "grey"]
    assert list(frame["runs"]) == [2, 2]
    assert "±" in capsys.readouterr().out


def test_a_summary_shows_what_was_chosen_of_stored_runs_too(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("-m", "attack=blind", "attack.guess=noise,grey")
    assert privsweep(*asked) == 0
    shutil.rmtree(tmp_path / "outputs" / "summaries")
    capsys.readouterr()
    assert privsweep(*asked, "summary=[test_accuracy,ssmi]") == 2
    refused = "privsweep: summary=[ssmi]: no run of this sweep can have such a number; did you mean ssim?"
    assert capsys.readouterr().err.splitlines() == [refused]
    assert not (tmp_path / "outputs" / "summaries").exists()
    assert privsweep(*asked, "summary=[test_accuracy,psnr]") == 0
    said = capsys.readouterr()
    assert said.out.index("test_accuracy") < said.out.index("psnr")
    assert len(records(tmp_path)) == 2
    [written] = (tmp_path / "outputs" / "summaries").glob("*.csv")
    columns = ["attack.guess", "test_accuracy", "test_accuracy_std", "psnr", "psnr_std", "runs", "complete"]
    assert list(pd.read_csv(written)) == columns


def test_the_summary_of_a_store_that_may_only_be_read_is_shown(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(**given: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    asked = ("-m", "attack=blind", "attack.guess=noise,grey")
    assert privsweep(*asked) == 0
    capsys.readouterr()
    monkeypatch.setattr(tempfile, "mkstemp", refused)
    assert privsweep(*asked) == 1
    shown = capsys.readouterr()
    assert "2 of 2 runs done" in shown.out
    [line] = shown.err.splitlines()
    assert line.startswith("privsweep: output_dir=outputs: is read, but cannot be written (Read-only file system)")


def test_a_sweep_is_refused_whole_before_anything_runs(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep("-m", "attack=blind", "model=lenet,vgg16", tiny=False) == 2
    assert "dataset.resize=32" in capsys.readouterr().err
    assert not records(tmp_path)


def test_a_table_is_filled_laid_out_and_not_run_again(
    tmp_path: Path, privsweep: Privsweep, table: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert privsweep(*table, "plan=true") == 0
    assert "6 runs, 6 to do" in capsys.readouterr().out
    assert privsweep(*table, "defense.noisy_gradients.sigma=0.5") == 0
    shown = capsys.readouterr().out
    assert "Grey is nearer" in shown
    assert "6 of 6 runs complete" in shown
    written = {p.suffix for p in (tmp_path / "outputs" / "smoke").iterdir()}
    assert written == {".md", ".tex", ".csv", ".png"}
    defended = [r for r in records(tmp_path) if r["choices"]["defense"]]
    assert [r["config"]["defense"]["noisy_gradients"]["sigma"] for r in defended] == [0.5, 0.5]
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("outputs/runs/*/record.json")}
    assert privsweep(*table, "defense.noisy_gradients.sigma=0.5") == 0
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("outputs/runs/*/record.json")} == before


def test_what_a_table_sets_cannot_be_overridden(
    privsweep: Privsweep, table: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for override in ("attack.guess=grey", "seed=3", "defense=[]"):
        assert privsweep(*table, override) == 2
        assert override.partition("=")[0] in capsys.readouterr().err


def test_a_failed_cell_is_shown_and_the_others_are_kept(
    tmp_path: Path,
    privsweep: Privsweep,
    table: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from privsweep.attack.blind import Blind

    original = Blind.__call__

    def broken(self: Blind, *arguments: Any) -> Any:
        if self.guess == "grey":
            raise RuntimeError("out of memory")
        return original(self, *arguments)

    monkeypatch.setattr(Blind, "__call__", broken)
    assert privsweep(*table) == 1
    assert "out of memory" in capsys.readouterr().out
    assert len(records(tmp_path)) == 4
    monkeypatch.setattr(Blind, "__call__", original)
    assert privsweep(*table) == 0
    assert len(records(tmp_path)) == 6


def test_a_misspelt_metric_of_a_table_is_told_by_its_key_and_mending_it_runs_nothing_again(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = TABLE.replace("metric: mse}", "metric: mes}")
    typed = small_table(tmp_path, wrong)
    file = tmp_path / "conf" / "experiment" / "small.yaml"
    file.write_text(wrong.replace("metric: mes", "metric: metric.mse"))
    assert privsweep(*typed) == 2
    assert "table.rows.mse.metric: a record has no part metric; there are metrics, " in capsys.readouterr().err
    file.write_text(wrong)
    said = "table.rows.mse.metric=mes: none of its runs can have such a number; did you mean mse?"
    assert privsweep(*typed) == 2
    assert capsys.readouterr().err.count(said) == 1
    monkeypatch.setattr("privsweep.cli.sweep.check_cells", lambda planned: None)  # as if an own attack might have it
    said = said.replace("can have", "has")
    assert privsweep(*typed) == 1
    assert capsys.readouterr().out.count(said) == 1
    assert report.main(["small", "scale=smoke", *TINY, *typed[1:]]) == 1
    assert said in capsys.readouterr().out
    file.write_text(TABLE)
    monkeypatch.setattr("privsweep.attack.blind.Blind.__call__", lambda *_: pytest.fail("run again"))
    assert privsweep(*typed) == 0


def test_a_refused_single_run_says_why_in_one_line(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert privsweep("attack=blind", "fl_setting.victims=50") == 2
    [line] = capsys.readouterr().err.strip().splitlines()
    assert "fl_setting.victims=50" in line


def test_dangerous_or_unused_flags_are_refused(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert privsweep("--experimental-rerun", "x.pickle") == 2
    assert privsweep("--config-name", "other") == 2
    assert "--config-dir" in capsys.readouterr().err


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "privsweep.cli.main", *arguments, *TINY]


def test_hydras_own_flags_stay(privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags, word in (
        (["--hydra-help"], "== Flags =="),
        (["--cfg", "job", "attack=blind"], "privsweep.attack.blind.Blind"),
        (["--cfg", "hydra", "--package", "hydra.run", "--resolve"], "dir: outputs/logs/"),
        (["--info", "searchpath"], "hydra.conf"),
    ):
        assert privsweep(*flags, tiny=False) == 0
        assert word in capsys.readouterr().out
    assert privsweep("--cfg", "job", "attack=blnd") == 2
    assert "did you mean blind?" in capsys.readouterr().err
    assert privsweep("--resolve") == 2
    assert not (tmp_path / "outputs").exists()


def test_a_single_run_is_composed_and_built_once_and_its_log_keeps_a_traceback(
    tmp_path: Path, privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privsweep.attack.blind import Blind
    from privsweep.cli import sweep
    from privsweep.run import build

    counts = {"compose": 0, "build": 0}
    for module, name in ((sweep, "compose"), (build, "build")):
        original = getattr(module, name)

        def counting(*arguments: Any, name: str = name, original: Any = original) -> Any:
            counts[name] += 1
            return original(*arguments)

        monkeypatch.setattr(module, name, counting)

    def broken(*_: Any) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(Blind, "__call__", broken)
    assert privsweep("attack=blind") == 1
    assert counts == {"compose": 1, "build": 1}
    [log] = tmp_path.glob("outputs/logs/*/privsweep.log")
    assert "RuntimeError: out of memory" in log.read_text()
    assert "Traceback" in log.read_text()


def test_a_job_composes_and_builds_once(
    privsweep: Privsweep, table: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    from privsweep.cli import jobs

    composed: list[list[str]] = []
    original = jobs.compose
    monkeypatch.setattr(jobs, "compose", lambda overrides: composed.append(list(overrides)) or original(overrides))
    assert privsweep(*table, "defense.noisy_gradients.sigma=0.5") == 0
    assert len(composed) == 6
    sigma = [o for o in composed if "defense.noisy_gradients.sigma=0.5" in o]
    assert len(sigma) == 2
    assert all("defense=[noisy_gradients]" in o for o in sigma)


def test_control_characters_do_not_reach_the_terminal(privsweep: Privsweep, capsys: pytest.CaptureFixture[str]) -> None:
    assert privsweep("attack=\x1b[31mred") == 2
    assert "\x1b" not in capsys.readouterr().err


def test_help_is_for_people(tmp_path: Path) -> None:
    shown = subprocess.run(command("--help"), cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    for word in ("dataset: ", "cifar10", "experiment=zen/table1", "--cfg job", "tab completion"):
        assert word in shown
    assert len(shown.splitlines()) < 60


def test_help_names_every_command_and_every_key_that_no_choice_has(tmp_path: Path) -> None:
    shown = subprocess.run(command("--help"), cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    keys = yaml.safe_load((CONF / "config.yaml").read_text()).keys() - {"defaults", "hydra", "cell"}
    commands = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["scripts"]
    assert [name for name in (*keys, *commands) if not re.search(rf"(?<![\w-]){name}(?![\w-])", shown)] == []


@pytest.mark.parametrize("kind", [True, False])
def test_candidates_of_one_kind_are_refused_before_the_attack_works(
    kind: bool,
    tmp_path: Path,
    privsweep: Privsweep,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As a setting of one's own may ask about them."""
    draw = BlackBoxView._draw

    def half(self: BlackBoxView, *given: Any) -> tuple[ImageSet, Membership]:
        drawn, truth = draw(self, *given)
        [at] = torch.nonzero(truth.member == kind, as_tuple=True)
        return drawn.take(at), Membership(member=truth.member[at], index=truth.index[at])

    monkeypatch.setattr(BlackBoxView, "_draw", half)
    assert privsweep("attack=blind_membership") == 2
    [line] = capsys.readouterr().err.splitlines()
    kinds = "members" if kind else "non-members"
    assert line.endswith(f": all candidates are {kinds}; let its view ask about members and non-members")
    assert line.startswith("privsweep: fl_setting=")
    assert not records(tmp_path)
