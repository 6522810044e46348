"""Runs are handed to real trackers, once, and never suffer from them."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import Privsweep

from privsweep.tracker import results
from privsweep.tracker.tensorboard import TensorBoard

RUN = ("attack=dlg", "attack.iterations=2")


def stored(root: Path) -> dict[str, Any]:
    [path] = root.glob("outputs/runs/*/record.json")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def test_mlflow_has_parameters_metrics_curves_and_pictures_of_a_run_once(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="pip install 'privsweep[mlflow]'")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert privsweep(*RUN, "tracker=mlflow") == 0
    assert privsweep(*RUN, "tracker=mlflow") == 0  # shown again, not handed over again
    record = stored(tmp_path)
    assert "tracker" not in record["choices"]
    client = mlflow.MlflowClient((tmp_path / "outputs" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("privsweep").experiment_id
    [run] = client.search_runs([experiment])
    assert run.data.tags["privsweep.signature"] == record["signature"]
    assert run.data.params["attack.iterations"] == "2"
    assert run.data.params["model"] == "lenet_dlg"
    assert run.data.metrics["metrics.ssim"] == pytest.approx(record["metrics"]["ssim"])
    assert len(client.get_metric_history(run.info.run_id, "attack.gradient_distance")) >= 2
    assert run.info.status == "FINISHED"
    assert "reconstructions.png" in {file.path for file in client.list_artifacts(run.info.run_id)}


def test_tensorboard_has_them_too(privsweep: Privsweep, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="pip install 'privsweep[tensorboard]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert privsweep(*RUN, "tracker=tensorboard") == 0
    assert privsweep(*RUN) == 0
    record = stored(tmp_path)
    seen = EventAccumulator(str(tmp_path / "outputs" / "tensorboard" / record["signature"])).Reload()
    assert seen.Scalars("metrics/ssim")[0].value == pytest.approx(record["metrics"]["ssim"])
    assert len(seen.Scalars("attack/gradient_distance")) >= 2
    assert "reconstructions" in seen.Tags()["images"]
    assert "attack.iterations: 2" in str(seen.Tensors("configuration/text_summary"))


def test_wandb_writes_offline(privsweep: Privsweep, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="pip install 'privsweep[wandb]'")
    assert privsweep(*RUN, "tracker=wandb") == 0
    [file] = tmp_path.glob("outputs/wandb/offline-run-*/run-*.wandb")
    sign, until = stored(tmp_path)["signature"].encode(), time.monotonic() + 60
    while sign not in file.read_bytes() and time.monotonic() < until:  # another process of theirs writes it
        time.sleep(0.1)
    assert sign in file.read_bytes()


def test_a_tracker_that_fails_costs_a_line_and_no_run(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: Any) -> None:
        raise OSError("the server\nis gone")

    monkeypatch.setattr(TensorBoard, "log", broken)
    monkeypatch.setattr(TensorBoard, "package", "json")
    assert privsweep("attack=blind", "tracker=tensorboard") == 0
    [line] = capsys.readouterr().err.strip().splitlines()
    assert line.endswith("is stored, but was not handed over (OSError: the server)")
    assert stored(tmp_path)["status"] == "complete"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("tracker: {uri: 'https://elsewhere.example'}", "tracker.uri=https://elsewhere.example"),
        ("tracker: {uri: ../elsewhere}", "tracker.uri=../elsewhere"),
        ("tracker: {uri: 'sqlite:////elsewhere/x.db'}", "tracker.uri=sqlite"),
        ("tracker: {_target_: evil.Tracker}", "tracker._target_"),
        ("tracker: {_target_: privsweep.attack.none.NoAttack}", "tracker"),
        ("tracker: 3", "tracker=3"),
    ],
)
def test_a_strangers_file_sends_nothing_elsewhere(
    text: str, named: str, privsweep: Privsweep, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from privsweep.tracker.mlflow import MLflow

    monkeypatch.setattr(MLflow, "package", "json")
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    head = "# @package _global_\ndefaults: [{override /tracker: mlflow}]\n"
    (tmp_path / "conf" / "experiment" / "strange.yaml").write_text(head + text)
    assert privsweep("--config-dir", "conf", "experiment=strange", "attack=blind", tiny=False) == 2
    assert named in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_one_that_is_not_installed_is_refused_before_any_work(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(TensorBoard, "package", "not_there")
    assert privsweep("attack=blind", "tracker=tensorboard") == 2
    assert "pip install 'privsweep[not_there]'" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_what_is_not_finite_is_left_out_but_a_diverged_victim_stays_at_its_last_value(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("iteration,victim,distance\n0,0,1\n0,1,3\n5,0,inf\n5,1,2\n")
    record = {
        "signature": "0", "choices": {"attack": "dlg", "defense": []}, "scale": "quick", "config": {"seed": 0},
        "metrics": {"mse": None, "psnr": 3}, "utility": {}, "seconds": {},
        "privacy": {"dp_sgd": {"epsilon": 2.0, "covers": "released model"}},
    }  # fmt: skip
    found = results.results_of(record, tmp_path)
    assert found.numbers == {"metrics.psnr": 3.0, "privacy.dp_sgd.epsilon": 2.0}
    assert found.curves == {"attack.distance": [(0, 2.0), (5, 1.5)]}
