"""A federation that diverged, or noise that drowns everything, is a result: it is counted and filed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Privsweep
from translation_world import write_pairs

NEVER = ("fl_setting.optimizer=sgd", "fl_setting.lr=1e9")  # weights without a finite value
LAST = "fl_setting.capture.round=last"
TRAINED = ("model=smlp", *NEVER, "fl_setting.rounds=2", LAST)


def record(privsweep: Privsweep, folder: Path, *arguments: str) -> dict[str, Any]:
    assert privsweep(*arguments) == 0
    [path] = folder.glob("outputs/runs/*/record.json")
    return dict(json.loads(path.read_text()))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("attack", ["dlg", "idlg", "cpl", "iga", "analytic"])
def test_every_attack_on_a_diverged_federation_ends_with_every_victim_counted(
    privsweep: Privsweep, tmp_path: Path, attack: str, batch: int
) -> None:
    given = (*TRAINED, f"attack={attack}", f"fl_setting.capture.batch_size={batch}")
    metrics = record(privsweep, tmp_path, *given)["metrics"]
    assert metrics["diverged"] == 1
    assert metrics["update_norm"] is None


@pytest.mark.parametrize("sigma", ["1e20", "9e37"])
@pytest.mark.parametrize("attack", ["dlg", "idlg", "iga", "analytic", "imprint"])
def test_noise_whose_square_is_no_float32_has_a_norm(
    privsweep: Privsweep, tmp_path: Path, attack: str, sigma: str
) -> None:
    noisy = ("defense=[noisy_gradients]", f"defense.noisy_gradients.sigma={sigma}")
    given = (f"attack={attack}", "model=smlp", "fl_setting.capture.batch_size=2", *noisy)
    assert record(privsweep, tmp_path, *given)["metrics"]["update_norm"] > float(sigma)


@pytest.mark.parametrize(
    "given",
    [
        (*TRAINED, "attack=iga", "defense=[gradient_quantization]", "defense.gradient_quantization.bits=16"),
        (*TRAINED, "attack=iga", "fl_setting.position=client"),
        (*TRAINED, "attack=analytic", "defense=[precode]"),
        ("model=smlp", *NEVER, "attack=rmia", "dataset.prior_size=40"),
        ("model=smlp", *NEVER, "attack=lira_online", "dataset.prior_size=40"),
        ("model=lenet", *NEVER, "attack=generative_decoder", "fl_setting=split", "dataset.prior_size=20"),
        ("model=lenet", *NEVER, "attack=likelihood_inversion", "fl_setting=split"),
        ("model=lenet", *NEVER, "attack=shadow_inversion", "fl_setting=collaborative_inference"),
    ],
    ids=lambda given: " ".join(given),
)
def test_other_views_and_defences_of_a_diverged_system_are_filed_too(
    privsweep: Privsweep, tmp_path: Path, given: tuple[str, ...]
) -> None:
    assert record(privsweep, tmp_path, *given)["status"] == "complete"


def test_a_translator_whose_loss_is_no_number_is_filed_without_it(privsweep: Privsweep, tmp_path: Path) -> None:
    write_pairs(tmp_path / "data")
    small = ("width=16", "heads=2", "layers=1", "feedforward=16")
    given = (
        "dataset=multi30k", "data_dir=data", "dataset.min_frequency=1", "dataset.max_words=7", "fl_setting=central",
        "model=translation_transformer", *(f"model.{key}" for key in small), "attack=none", "fl_setting.epochs=1",
        "fl_setting.lr=1e30", "dataset.train_size=20", "dataset.test_size=5", "scale=smoke",
    )  # fmt: skip
    assert privsweep(*given, tiny=False) == 0
    [path] = tmp_path.glob("outputs/runs/*/record.json")
    assert json.loads(path.read_text())["utility"]["validation_loss"] is None
