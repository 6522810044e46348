"""A table filled from records."""

from __future__ import annotations

import math

import pytest
from table_world import config, lay, record

from privsweep.interface.errors import UserError
from privsweep.table.cells import aggregate
from privsweep.table.fill import fill_table
from privsweep.table.number_format import UNKNOWN
from privsweep.table.spec import Table


def test_complete_cells_stand_beside_the_printed_numbers() -> None:
    filled = lay([record(20, 60), record(31, 90), record(50, 120)], [record(None)] * 3)
    cell = filled.cells["iterations", "lenet"]
    assert (cell.value, cell.printed, cell.difference, cell.state) == (31.0, "31", 0.0, "complete")
    assert cell.text == "31 [20, 50] (3)"
    time = filled.cells["time", "lenet"]
    assert (time.text, time.difference, time.difference_text) == ("1:30 ± 0:30 (3)", -24.0, "-0:24")
    never = filled.cells["iterations", "alexnet"]
    assert (never.value, never.text, never.difference) == (None, "N/A (0 of 3)", None)
    assert [(v.holds, v.in_print) for v in filled.verdicts] == [(True, True)]
    assert (filled.complete, filled.jobs) == (6, 6)


def test_a_median_survives_one_seed_that_never_gets_there_and_a_mean_does_not() -> None:
    assert lay([record(20), record(None), record(50)], [None] * 3).cells["iterations", "lenet"].text == (
        "50 [20, N/A] (3)"
    )
    assert aggregate([20.0, None, None], "median") == (None, None)
    rows = {"mse": {"label": "MSE", "metric": "iterations_to_zero"}}
    cell = lay([record(20), record(None), record(50)], [None] * 3, rows=rows, printed={}, findings=[]).cells[
        "mse", "lenet"
    ]
    assert (cell.value, cell.text, cell.state) == (None, "N/A (2 of 3)", "complete")


def test_no_mean_over_survivors() -> None:
    failed = {"status": "failed", "error": "MemoryError: too\nlarge"}
    filled = lay([record(20), failed, record(50)], [failed, None, None])
    cell = filled.cells["iterations", "lenet"]
    assert (cell.state, cell.value, cell.difference) == ("partial", UNKNOWN, None)
    assert cell.text == "20, 50 (only 2 of 3)"
    assert filled.cells["iterations", "alexnet"].text == "failed (1 of 3)"
    assert set(filled.problems) == {f"{job}: failed, MemoryError: too large" for job in ("lenet-s1", "alexnet-s0")}
    assert filled.verdicts[0].holds is None
    assert lay([None] * 3, [None] * 3).cells["time", "lenet"].text == "missing"


def test_a_metric_that_one_record_lacks_is_reported() -> None:
    filled = lay([record(1), record(1, metrics={}), record(2)], [None] * 3)
    assert filled.cells["iterations", "lenet"].state == "partial"
    assert filled.problems == ("lenet-s1: the record 0123456789ab has no iterations_to_zero",)
    filled = lay([record(1), record(1, metrics={}, utility={"iterations_to_zero": 1.0})], [None], seeds=[0, 1])
    assert filled.problems[0].endswith("has no iterations_to_zero; write utility.iterations_to_zero")
    assert filled.misnamed == ()


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("iterations_to_zer", "did you mean iterations_to_zero?"),
        ("per_victim", "did you mean seconds.per_victim?"),
        ("utility.acuracy", "did you mean utility.accuracy?"),
        ("privacy.dp_sgd.epsilom", "did you mean privacy.dp_sgd.epsilon?"),
        ("zzz", "there are iterations_to_zero, utility.final_accuracy, utility.accuracy, "),
    ],
)
def test_a_metric_that_no_record_has_is_misnamed(metric: str, said: str) -> None:
    rows = {"a": {"label": "A", "metric": metric}, "time": {"label": "Time", "metric": "seconds.per_victim"}}
    other = record(1, utility={"accuracy": 0.5})
    made = record(1, utility={"accuracy": 0.5}, privacy={"dp_sgd": {"epsilon": 2.0, "covers": "all"}})
    filled = lay([made] * 3, [other] * 3, rows=rows, printed={}, findings=[])
    [line] = filled.misnamed
    assert line.startswith(f"table.rows.a.metric={metric}: none of its runs has such a number; ")
    assert said in line
    assert filled.problems == (line,)
    assert filled.cells["time", "lenet"].state == "complete"


def test_a_metric_of_no_part_of_a_record_is_refused() -> None:
    with pytest.raises(UserError, match=r"table\.rows\.a\.metric: a record has no part utilty; there are metrics"):
        Table.from_config(config(rows={"a": {"label": "A", "metric": "utilty.test_accuracy"}}, printed={}, findings=[]))


def test_not_a_number_is_not_available() -> None:
    assert lay([record(math.nan)] * 3, [None] * 3).cells["iterations", "lenet"].value is None


def test_one_seed_has_no_deviation() -> None:
    filled = lay([record(20, 61)], [record(None)], seeds=[0])
    assert filled.cells["time", "lenet"].text == "1:01 (1)"
    assert filled.cells["iterations", "lenet"].text == "20 (1)"


def test_environments_are_told_apart() -> None:
    other = record(
        31, environment={"device": "cuda", "date": "2025-02-03", "versions": {"torch": "2.6", "privsweep": None}}
    )
    filled = lay([record(20), other, record(50)], [None] * 3)
    assert filled.environment == {
        "device": "cpu; cuda",
        "date": "2025-01-02 to 2025-02-03",
        "versions": "torch 2.5; torch 2.6",
    }


def test_the_command_repeats_what_was_given() -> None:
    table = Table.from_config(config(), "zen/table1")
    given = ["experiment=zen/table1", "scale=quick", "defense=[a,b]"]
    own = "experiment=zen/table1 scale=quick 'defense=[a,b]'"
    assert fill_table(table, {}, "quick", given).command == f"privsweep {own}"
    mine = fill_table(table, {}, "quick", given, config_dir="my conf")
    assert mine.command == f"privsweep --config-dir 'my conf' {own}"


def test_a_share_is_compared_in_points() -> None:
    rows = {"share": {"label": "Share", "metric": "share", "format": ".1%"}}
    table = config(rows=rows, printed={"share": {"lenet": "50.0%"}}, findings=[], seeds=[0])
    filled = fill_table(Table.from_config(table), {"lenet-s0": record(0, metrics={"share": 0.525})}, "paper")
    cell = filled.cells["share", "lenet"]
    assert (cell.text, cell.difference_text) == ("52.5% (1)", "+2.5%")
