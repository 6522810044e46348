"""Numbers of a training curve, and a table's rows of them."""

from pathlib import Path
from typing import Any

import pytest

from privsweep.interface.errors import UserError
from privsweep.table.fill import fill_table
from privsweep.table.learning_curve import CurveNumber, curve_number
from privsweep.table.number_format import UNKNOWN
from privsweep.table.spec import Table


def run(folder: Path, *accuracies: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "".join(f"{n},{a}\n" for n, a in enumerate(accuracies, 1))
    (folder / "training.csv").write_text(f"round,train_accuracy\n{rows}")
    return folder


def learning(**how: Any) -> CurveNumber:
    return CurveNumber(value="train_accuracy", **how)


def test_what_is_read(tmp_path: Path) -> None:
    own, best = run(tmp_path / "own", 0.2, 0.5, 0.4, 0.6), run(tmp_path / "best", 0.5, 1.0)
    assert curve_number(learning(reach=0.5), own, None) == 2
    assert curve_number(learning(reach=0.9), own, None) is None
    assert curve_number(learning(reach_share=0.6), own, best) == 4
    assert curve_number(learning(reach_share=0.9), own, best) is None
    assert curve_number(learning(spread_of_last=2), own, None) == pytest.approx(0.1414, abs=1e-4)
    assert curve_number(learning(spread_of_last=1), own, None) is None


def test_what_is_not_there_is_unknown(tmp_path: Path) -> None:
    own = run(tmp_path / "own", 0.2)
    assert curve_number(learning(reach=0.1), tmp_path / "none", None) is UNKNOWN
    assert curve_number(learning(reach_share=0.1), own, None) is UNKNOWN
    assert curve_number(CurveNumber(value="loss", reach=0.1), own, None) is UNKNOWN


def table(**learning: Any) -> Table:
    return Table.from_config({
        "title": "curves", "place": "nowhere", "seeds": [0],
        "rows": {"soon": {"label": "Epochs", "learning": {"value": "train_accuracy", **learning}, "format": ".0f"}},
        "columns": {
            "plain": {"label": "Plain", "overrides": ["defense=[]"], "baseline": "plain"},
            "noisy": {"label": "Noisy", "overrides": ["defense=[noisy_gradients]"], "baseline": "plain"},
        },
    })  # fmt: skip


def test_a_row_measures_every_column_against_its_baseline(tmp_path: Path) -> None:
    run(tmp_path / "plain", 0.5, 0.9, 1.0)
    run(tmp_path / "noisy", 0.1, 0.2, 0.9)
    records = {f"{c}-s0": {"signature": c, "status": "complete"} for c in ("plain", "noisy")}
    filled = fill_table(table(reach_share=0.85), records, "paper", folder=lambda sign: tmp_path / sign)
    assert [filled.cells["soon", c].value for c in ("plain", "noisy")] == [2, 3]
    assert filled.folders["soon", "noisy", 0] == tmp_path / "noisy"
    records["plain-s0"]["status"] = "failed"
    filled = fill_table(table(reach_share=0.85), records, "paper", folder=lambda sign: tmp_path / sign)
    assert filled.cells["soon", "noisy"].value is UNKNOWN
    assert any("has no curve of Epochs" in problem for problem in filled.problems)


def test_a_column_that_no_curve_has_is_misnamed(tmp_path: Path) -> None:
    for name in ("plain", "noisy"):
        run(tmp_path / name, 0.5, 0.9)
    records = {f"{c}-s0": {"signature": c, "status": "complete"} for c in ("plain", "noisy")}
    wrong = table(value="train_acuracy", reach=0.5)
    [line] = fill_table(wrong, records, "paper", folder=lambda sign: tmp_path / sign).misnamed
    assert line.startswith("table.rows.soon.learning.value=train_acuracy: none of its runs has such a number")
    assert line.endswith("did you mean train_accuracy?")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match="give one of reach, reach_share and spread_of_last"):
        table(reach=0.5, spread_of_last=3)
    with pytest.raises(UserError, match=r"columns\.a\.baseline=None: r needs a baseline"):
        Table.from_config({
            "title": "t", "place": "p", "seeds": [0], "columns": {"a": {"label": "a"}},
            "rows": {"r": {"label": "r", "learning": {"value": "x", "reach_share": 0.9}}},
        })  # fmt: skip
