"""What goes together, asked of the checks that every run passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from privsweep.cli import matrix as command
from privsweep.interface.errors import UserError
from privsweep.run import matrix_data
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.matrix import RUNS, Grid, Matrix, World, mandatory
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_seen

NAMES = {
    "fl_setting": ["captured", "collaborative_inference", "fedavg"],
    "attack": ["analytic", "generative_decoder", "iga", "likelihood_inversion", "none", "prior_mean", "rmia"],
    "defense": ["ensembler", "secure_aggregation"],
    "model": ["lenet", "smlp", "translation_transformer"],
}


@pytest.fixture(scope="module")
def found() -> Iterator[Matrix]:
    reasons: list[str] = []
    with searching(None):
        world = World(NAMES)
        yield Matrix([world.attacks(reasons), world.defenses(reasons), world.models(reasons)], reasons)


def reason(found: Matrix, grid: int, row: str, column: str) -> str:
    return found.reasons[int(found.grids[grid].cells[row, column]) - 1]


def test_attacks_go_with_settings_as_they_are_with_something_added_or_not(found: Matrix) -> None:
    cells = found.grids[0].cells
    assert cells["analytic", "fedavg"] == RUNS
    assert cells["iga", "fedavg"] == RUNS
    assert cells["rmia", "fedavg"] == "p"
    assert cells["likelihood_inversion", "collaborative_inference"] == "h"
    assert "observes activations, the setting exposes update" in reason(found, 0, "generative_decoder", "fedavg")


def test_defences_go_with_what_calls_them(found: Matrix) -> None:
    cells = found.grids[1].cells
    assert cells["fedavg: nothing, predictions, update", "secure_aggregation"] == RUNS
    assert cells["collaborative_inference: activations, nothing, predictions", "ensembler"] == RUNS
    assert "acts at server_view" in reason(
        found, 1, "collaborative_inference: activations, nothing, predictions", "secure_aggregation"
    )
    assert "trains in stages" in reason(found, 1, "fedavg: nothing, predictions, update", "ensembler")


def test_a_setting_that_needs_a_file_is_asked_without_one(found: Matrix) -> None:
    assert found.grids[0].cells["iga", "captured"] == RUNS
    assert "exposes update" in reason(found, 0, "rmia", "captured")
    assert found.grids[2].cells["iga", "lenet"] == RUNS
    with searching(None):
        assert mandatory("fl_setting", "captured") == ["fl_setting.path"]
        assert mandatory("fl_setting", "fedavg") == []


def test_what_no_attack_changes_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def counted(spec: RunSpec, *given: Any) -> nn.Module:
        tried.append(spec.choices["attack"])
        return check_seen(spec, *given)

    monkeypatch.setattr(matrix_data, "check_seen", counted)
    asked = matrix_data.Asked(matrix_data.images())
    with searching(None):
        first = build(compose(["attack=analytic", "model=lenet", "scale=smoke"]))
        second = replace(first, attack=build(compose(["attack=iga"])).attack)
        assert "must be linear" in (asked.unfit(first) or "")
        assert asked.unfit(second) is None
        assert asked.unfit(replace(second, choices={**second.choices, "model": "another"})) is None
    assert len(tried) == 2


def test_models_go_with_attacks_on_the_data_that_they_are_for(found: Matrix) -> None:
    cells = found.grids[2].cells
    assert cells["analytic", "smlp"] == RUNS
    assert "must be linear" in reason(found, 2, "analytic", "lenet")
    assert cells["none", "translation_transformer"] == "s"
    for attack in ("generative_decoder", "likelihood_inversion", "prior_mean"):
        assert "translates" in reason(found, 2, attack, "translation_transformer")


@pytest.mark.parametrize(
    ("given", "runs"),
    [
        (["attack=iga", "attack.labels=known", "fl_setting=fedavg"], False),
        (["attack=iga", "attack.labels=known", "fl_setting=fedavg", "fl_setting.labels_known=true"], True),
        (["attack=rmia", "fl_setting=fedavg", "dataset.prior_size=2000"], True),
    ],
)
def test_the_command_says_the_same(given: list[str], runs: bool) -> None:
    with searching(None):
        if runs:
            assert build(compose(given))
        else:
            with pytest.raises(UserError, match="needs labels"):
                build(compose(given))


def test_it_is_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = Grid(
        "attacks and settings", ["mine"], ["fedavg", "split"], {("mine", "fedavg"): RUNS, ("mine", "split"): "1"}
    )
    monkeypatch.setattr(
        "privsweep.run.matrix.matrix",
        lambda config_dir: Matrix([grid], ["observes a | b\x1b"], {"attack=iga": ["attack.labels=analytic"]}),
    )
    assert command.main([f"markdown={tmp_path}/m.md"]) == 0
    shown = capsys.readouterr().out
    assert "  1  observes a | b\\x1b" in shown
    assert "attack=iga brings: attack.labels=analytic" in shown
    assert "labels_known" not in shown, "no cell needs it"
    text = (tmp_path / "m.md").read_text()
    assert "| mine |      ● |     1 |" in text
    assert r"a \| b" in text
    assert command.main(["latex=m.tex"]) == 2
    assert command.main([f"markdown={tmp_path}"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 2


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_name_and_no_sign_is_cut_off_in_a_narrow_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["informed_reconstruction", "collaborative_inference: activations, nothing, predictions"]
    columns = [f"translation_transformer_{n:02d}" for n in range(12)]
    cells = {(row, column): f"{500 + 100 * r + c}" for r, row in enumerate(rows) for c, column in enumerate(columns)}
    reason = " ".join(f"word{n}" for n in range(40))
    monkeypatch.setattr(
        "privsweep.run.matrix.matrix", lambda config_dir: Matrix([Grid("many", rows, columns, cells)], [reason])
    )
    monkeypatch.setattr("privsweep.cli.grids._WIDTH", width)
    assert command.main([]) == 0
    grid, _, told = capsys.readouterr().out.partition("●")
    assert max(map(len, grid.splitlines())) <= width
    words = grid.split()
    assert all(words.count(sign) == 1 for sign in cells.values())
    assert (
        words.count("informed_reconstruction") == words.count("collaborative_inference:") == words.count("predictions")
    )
    assert all(words.count(f"{n:02d}") == 1 for n in range(12))
    assert reason in told, "in one line, where another command may read it"
