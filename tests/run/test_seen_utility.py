"""A record's utility is that of the weights that were attacked; the final model's stands beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import run
from privsweep.table.fill import fill_table
from privsweep.table.spec import Table

Attacked = Callable[..., dict[str, float]]


@pytest.fixture
def attacked(tmp_path: Path) -> Iterator[Attacked]:
    def attacked(*overrides: str) -> dict[str, float]:
        given = [*TINY, "attack=blind", "fl_setting.rounds=3", f"output_dir={tmp_path}", *overrides]
        utility: dict[str, float] = dict(run(build(compose(given)))["utility"])
        return utility

    with searching(None):
        yield attacked


def test_it_is_that_of_the_weights_which_are_seen(attacked: Attacked) -> None:
    end = attacked("fl_setting.capture.round=last")
    assert set(end) == {"train_accuracy", "test_accuracy"}
    untrained = attacked("fl_setting.capture.round=0")
    final = {f"final_{name}": value for name, value in end.items()}
    assert {name: value for name, value in untrained.items() if name.startswith("final_")} == final
    assert abs(untrained["train_accuracy"] - 0.1) < 0.15, "ten classes"
    assert untrained["train_accuracy"] < end["train_accuracy"]
    midway = attacked("fl_setting.capture.round=1", "fl_setting.checkpoints=[1]")
    only = attacked("fl_setting.capture.round=last", "fl_setting.rounds=1")
    assert {name: midway[name] for name in only} == only
    assert attacked() == untrained, "the same run, from the store"


def test_where_nothing_is_trained_it_is_measured(attacked: Attacked) -> None:
    assert set(attacked("fl_setting.rounds=0")) == {"train_accuracy", "test_accuracy"}
    assert set(attacked("fl_setting.rounds=0", "attack=none")) == {"train_accuracy", "test_accuracy"}


def test_it_is_measured_on_some_examples_where_there_are_many(
    attacked: Attacked, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A wide network's pass over all images would take longer than the attack; the record says on how many."""
    monkeypatch.setattr("privsweep.run.seen_utility._JUDGED", 25)
    share = attacked("fl_setting.rounds=0")["train_accuracy"] * 25
    assert share == pytest.approx(round(share))
    [record] = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json")]
    assert record["sizes"]["train"] == 60
    assert record["sizes"]["judged_train"] == 25
    assert "judged_test" not in record["sizes"], "all 20"


def test_a_table_reads_the_final_models_whatever_was_attacked() -> None:
    def cells(utility: dict[str, float]) -> list[Any]:
        rows = {n: {"label": n, "metric": f"utility.{n}test_accuracy"} for n in ("", "final_")}
        table = Table.from_config({
            "title": "t", "place": "p", "rows": {"seen": rows[""], "final": rows["final_"]}, "seeds": [0],
            "columns": {"one": {"label": "One"}},
        })  # fmt: skip
        record = {"signature": "0", "status": "complete", "metrics": {}, "utility": utility}
        filled = fill_table(table, {"one-s0": record}, "quick")
        return [filled.cells[row, "one"].value for row in ("seen", "final")]

    assert cells({"test_accuracy": 0.1, "final_test_accuracy": 0.9}) == [0.1, 0.9]
    assert cells({"test_accuracy": 0.9}) == [0.9, 0.9]
