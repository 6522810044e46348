"""A component of every kind that others will bring is one file and one YAML each, without a line in privsweep."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Privsweep
from safetensors.torch import load_file

EXTENSIONS = Path(__file__).parents[1] / "extensions"
SHORT = ["fl_setting.epochs=1"]


@pytest.fixture
def run(privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PRIVSWEEP_TRUST", "extensions")

    def call(*arguments: str, tiny: bool = True) -> dict[str, Any]:
        given = ["--config-dir", str(EXTENSIONS / "conf"), *arguments]
        assert privsweep(*given, tiny=tiny) == 0
        [path] = tmp_path.glob("outputs/runs/*/record.json")
        return dict(json.loads(path.read_text()))

    return call


def test_an_attack_with_several_answers(run: Any, tmp_path: Path) -> None:
    record = run("attack=greys")
    metrics = record["metrics"]
    assert metrics["mse"] == metrics["mse_grey"] < metrics["mse_white"]
    assert metrics["psnr_black"] != metrics["psnr"] > metrics["psnr_white"]
    [rows] = tmp_path.glob("outputs/runs/*/victims.csv")
    head = rows.read_text().splitlines()[0].split(",")
    assert {"victim", "mse", "mse_grey", "mse_white"} <= set(head)
    assert not any(name.startswith("victim_") for name in head)
    assert list(tmp_path.glob("outputs/runs/*/reconstructions.png"))


def test_features_of_a_query_whose_client_part_is_not_known(run: Any) -> None:
    record = run("fl_setting=inference", "attack=reads_server", *SHORT)
    assert record["threat_model"]["time"] == "test"
    assert record["threat_model"]["position"] == "server"
    assert record["metrics"]["mse"] > 0


def test_what_the_client_keeps_to_itself_is_refused(privsweep: Privsweep, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("PRIVSWEEP_TRUST", "extensions")
    given = ["--config-dir", str(EXTENSIONS / "conf"), "fl_setting=inference", "dataset.prior_size=20", *SHORT]
    assert privsweep(*given, "attack=generative_decoder") == 2
    assert "needs message_size, model, which fl_setting=inference does not grant" in " ".join(
        capsys.readouterr().err.split()
    )


def test_released_weights(run: Any) -> None:
    record = run("fl_setting=releasing", "attack=from_weights", *SHORT)
    assert record["threat_model"]["position"] == "off-path"
    assert record["metrics"]["mse"] > 0


def test_sequences_of_tokens(run: Any) -> None:
    given = ["dataset=parity", "model=embedded", "fl_setting=embedding", "attack=looks_up", "fl_setting.victims=5"]
    record = run(*given, "scale=smoke", *SHORT, tiny=False)
    assert record["metrics"]["token_accuracy"] == 1
    assert record["metrics"]["exact"] == 1
    assert record["utility"]["test_accuracy"] > 0


def test_a_component_that_lacks_part_of_its_role_is_refused(
    privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRIVSWEEP_TRUST", "extensions")
    assert privsweep("--config-dir", str(EXTENSIONS / "conf"), "dataset=incomplete", tiny=False) == 2
    assert "has no files, prior_size; a Dataset needs them" in " ".join(capsys.readouterr().err.split())


def test_a_defence_without_its_package_line_is_refused(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "conf" / "defense"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: privsweep.defense.noisy_gradients.NoisyGradients\nsigma: 1.0\n")
    assert privsweep("--config-dir", str(tmp_path / "conf"), "defense=[mine]") == 2
    assert "@package defense.mine" in capsys.readouterr().err


def test_a_defence_that_trains_in_stages(privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first stage is plain training; the second moves the output layer alone; the system serves a second attack."""
    monkeypatch.setenv("PRIVSWEEP_TRUST", "extensions")
    given = ["--config-dir", str(EXTENSIONS / "conf"), "fl_setting=central", "fl_setting.epochs=2"]
    assert privsweep(*given, "attack=none", "defense=[]") == 0
    [plain] = tmp_path.glob("outputs/systems/*.safetensors")
    assert privsweep(*given, "attack=none", "defense=[staged]") == 0
    [staged] = set(tmp_path.glob("outputs/systems/*.safetensors")) - {plain}
    before, after = load_file(plain), load_file(staged)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        assert torch.equal(weight, after[name]) != name.startswith("2/output"), name
    [curve] = [path.read_text() for path in tmp_path.glob("outputs/runs/*/training.csv") if "\n4," in path.read_text()]
    assert [line.split(",")[0] for line in curve.splitlines()] == ["round", "1", "2", "3", "4"]

    assert privsweep(*given, "attack=blind", "defense=[staged]") == 0
    records = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/record.json")]
    [attacked] = [record for record in records if record["choices"]["attack"] == "blind"]
    assert attacked["environment"]["trained_from_cache"]
    assert len(list(tmp_path.glob("outputs/systems/*.safetensors"))) == 2


def test_stages_are_refused_where_they_would_not_be_trained(
    privsweep: Privsweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRIVSWEEP_TRUST", "extensions")
    given = ["--config-dir", str(EXTENSIONS / "conf"), "attack=none", "defense=[staged]"]
    assert privsweep(*given, "fl_setting=fedavg") == 2
    assert "take fl_setting=central" in " ".join(capsys.readouterr().err.split())
    assert privsweep(*given, "fl_setting=central", "fl_setting.epochs=2", "fl_setting.checkpoints=[1]") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "defense=[staged]: where one trains in stages, only what they end with is kept" in told
    assert "take fl_setting.checkpoints=[] instead of [1]" in told
