"""A table: its check, its jobs, and its layout from records."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from privsweep.interface.errors import UserError
from privsweep.run.compose import compose, searching
from privsweep.table.cells import aggregate
from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.number_format import UNKNOWN, parse, show
from privsweep.table.significance import weakens
from privsweep.table.spec import Table

EXPERIMENTS = Path(__file__).parents[2] / "conf" / "experiment"


def config(**changes: Any) -> dict[str, Any]:
    """Two metric rows over two columns."""
    return {
        "title": "DLG",
        "place": "section 5, Table 1",
        "rows": {
            "iterations": {"label": "Iterations", "metric": "iterations_to_zero", "aggregate": "median"},
            "time": {"label": "Time", "metric": "seconds.per_victim", "format": "m:ss"},
        },
        "columns": {
            "lenet": {"label": "LeNet", "overrides": ["model=lenet_dlg"]},
            "alexnet": {"label": "AlexNet", "overrides": ["model=alexnet", "model.init=uniform"]},
        },
        "seeds": [0, 1, 2],
        "printed": {"iterations": {"lenet": "31", "alexnet": "N/A"}, "time": {"lenet": "1:54"}},
        "findings": [
            {
                "id": "f1",
                "claim": "LeNet leaks",
                "check": "none(v('iterations', 'alexnet')) and v('iterations', 'lenet') < 300",
                "holds_in_print": True,
            }
        ],
        **changes,
    }


def record(iterations: float | None, seconds: float = 60.0, **changes: Any) -> dict[str, Any]:
    return {
        "signature": "0123456789ab",
        "status": "complete",
        "metrics": {"iterations_to_zero": iterations},
        "utility": {},
        "seconds": {"per_victim": seconds},
        "environment": {"device": "cpu", "date": "2025-01-02", "versions": {"torch": "2.5"}},
        **changes,
    }


def lay(lenet: list[Any], alexnet: list[Any], **changes: Any) -> FilledTable:
    records = {f"lenet-s{s}": r for s, r in enumerate(lenet)} | {f"alexnet-s{s}": r for s, r in enumerate(alexnet)}
    return fill_table(Table.from_config(config(**changes)), records, "paper")


JUDGED = {
    "rows": {
        "verdict": {"label": "Weakened", "weakened": {"base": "base", "adapted": "adapted"}},
        "base": {"label": "Before", "metric": "ssim", "better": "higher", "overrides": ["attack=dlg"]},
        "adapted": {"label": "After", "metric": "ssim", "better": "higher", "overrides": ["attack=dlg"]},
    },
    "columns": {"batch": {"label": "Batch"}, "depth": {"label": "Depth"}},
    "cells": {"adapted": {"batch": ["fl_setting.capture.batch_size=8"], "depth": ["model.depth=5"]}},
    "seeds": [0, 1],
    "printed": {"verdict": {"batch": "Yes", "depth": "Yes2"}},
    "findings": [
        {"id": "f1", "claim": "Both help", "check": "all(x == 1 for x in r('verdict'))", "holds_in_print": True}
    ],
}


def judged(base: list[float], batch: list[float], depth: list[float]) -> FilledTable:
    table = Table.from_config(config(**JUDGED))
    values = {"base": base, "adapted.batch": batch, "adapted.depth": depth}
    records = {
        job.id: record(None, metrics={"ssim": values[job.id.rpartition("-s")[0]][int(job.id[-1])]})
        for job in table.jobs()
    }
    return fill_table(table, records, "paper")


def test_a_verdict_is_computed_from_the_runs_without_and_with_and_stands_beside_the_papers() -> None:
    filled = judged([0.90, 0.92], [0.10, 0.12], [0.89, 0.95])
    batch, depth = filled.cells["verdict", "batch"], filled.cells["verdict", "depth"]
    assert (batch.value, batch.text[:4], batch.difference_text) == (1.0, "Yes ", "agrees")
    assert (depth.value, depth.text[:3], depth.difference_text) == (0.0, "No ", "differs")
    assert filled.verdicts[0].holds is False


def test_a_verdict_needs_both_sides_and_two_seeds() -> None:
    table = Table.from_config(config(**JUDGED))
    filled = fill_table(table, {}, "paper")
    assert filled.cells["verdict", "batch"].text == "missing"
    assert filled.verdicts[0].holds is None
    assert weakens([0.9], [0.1], True) == (UNKNOWN, None)
    assert weakens([0.9, 0.9], [0.9, 0.9], True)[0] == 0
    assert weakens([5.0, 6.0], [None, None], False)[0] == 1


def test_cells_that_set_nothing_of_their_own_share_their_run() -> None:
    jobs = Table.from_config(config(**JUDGED)).jobs()
    assert len(jobs) == 6
    assert {len(job.cells) for job in jobs if job.id.startswith("base")} == {2}


# --- the check ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rowz": {}}, "table.rowz"),
        ({"rows": {}}, "table.rows"),
        ({"seeds": []}, "table.seeds"),
        ({"seeds": [0, 0]}, "seed 0 is given twice"),
        ({"seeds": [-1]}, "table.seeds.0"),
        ({"rows": {"A b": {"label": "x", "metric": "mse"}}}, "A b"),
        ({"rows": {"a": {"label": "x"}}}, "must read one number"),
        ({"rows": {"a": {"label": "x", "metric": "mse", "colour": "red"}}}, "colour"),
        ({"rows": {"a": {"label": "x", "metric": "mse", "aggregate": "best"}}}, "aggregate"),
        ({"rows": {"a": {"label": "x", "metric": "mse", "format": "99999f"}}}, "format"),
        ({"rows": {"a": {"label": "x", "metric": "mse; rm"}}}, "metric"),
        ({"printed": {"iterations": {"vgg": "3"}}}, r"printed\.iterations\.vgg names no cell"),
        ({"printed": {"nothing": {"lenet": "3"}}}, r"printed\.nothing\.lenet names no cell"),
        ({"printed": {"iterations": {"lenet": 31}}}, r"printed\.iterations\.lenet"),
        ({"columns": {"a": {"label": "a", "overrides": ["model"]}}}, "overrides"),
        ({"columns": {"a": {"label": "a", "overrides": ["seed=1"]}}}, "sets seed twice"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as refusal:
        Table.from_config(config(**{"printed": {}, "findings": [], **changes}), "my/table")
    assert str(refusal.value).startswith("experiment=my/table: ")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("name", ["../table1", "/tmp/table1", "zen/.."])
def test_a_name_that_leads_out_of_the_output_folder_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"^experiment={name}: leads out of the output folder"):
        Table.from_config(config(), name)


def test_findings_are_checked_when_the_table_is_read() -> None:
    finding = config()["findings"][0]
    with pytest.raises(UserError, match="finding f1 is given twice"):
        Table.from_config(config(findings=[finding, finding]))
    with pytest.raises(UserError, match=r"experiment=table: table\.findings\.f1: .*__import__"):
        Table.from_config(config(findings=[{**finding, "check": "__import__('os')"}]))
    with pytest.raises(UserError, match="the printed numbers give True"):
        Table.from_config(config(findings=[{**finding, "holds_in_print": False}]))


# --- jobs -----------------------------------------------------------------------------------------------


def test_rows_of_metrics_share_a_run() -> None:
    jobs = Table.from_config(config()).jobs()
    assert [job.id for job in jobs] == [f"{c}-s{s}" for s in range(3) for c in ("lenet", "alexnet")]
    assert jobs[1].overrides == ("model=alexnet", "model.init=uniform", "seed=0")
    assert jobs[1].cells == (("iterations", "alexnet", 0), ("time", "alexnet", 0))


def test_overrides_for_every_cell_come_first() -> None:
    jobs = Table.from_config(config()).jobs(["fl_setting.clients=2"])
    assert jobs[0].overrides == ("fl_setting.clients=2", "model=lenet_dlg", "seed=0")


def test_rows_with_overrides_multiply_and_equal_cells_share() -> None:
    rows = {
        "plain": {"label": "SSIM", "metric": "ssim"},
        "noisy": {"label": "SSIM, noisy", "metric": "ssim", "overrides": ["defense=[noisy_gradients]"]},
    }
    columns = {
        "lenet": {"label": "LeNet", "overrides": ["model=lenet"]},
        "same": {"label": "LeNet again", "overrides": ["model=lenet"]},
        "default": {"label": "as it is"},
    }
    table = Table.from_config(config(rows=rows, columns=columns, seeds=[7], printed={}, findings=[]))
    jobs = {job.id: job for job in table.jobs()}
    assert list(jobs) == ["lenet-s7", "noisy.lenet-s7", "default-s7", "noisy-s7"]
    assert len({job.overrides for job in jobs.values()}) == 4
    assert [cell for job in jobs.values() for cell in job.cells].count(("plain", "same", 7)) == 1
    assert jobs["lenet-s7"].cells == (("plain", "lenet", 7), ("plain", "same", 7))
    assert table.keys() == {"model", "defense", "seed"}


def test_a_row_of_utility_leaves_out_the_attack_of_its_column() -> None:
    rows = {
        "ssim": {"label": "SSIM", "metric": "ssim"},
        "accuracy": {"label": "Accuracy", "metric": "utility.test_accuracy", "overrides": ["attack=none"]},
    }
    columns = {
        "plain": {"label": "Plain", "overrides": ["model=smlp"]},
        "aware": {"label": "Aware", "overrides": ["model=smlp", "attack.match=deterministic_layers"]},
        "exact": {"label": "Exact", "overrides": ["model=smlp", "attack=analytic"]},
    }
    table = Table.from_config(config(rows=rows, columns=columns, seeds=[0], printed={}, findings=[]))
    jobs = {job.id: job for job in table.jobs()}
    assert list(jobs) == ["plain-s0", "accuracy.plain-s0", "aware-s0", "exact-s0"]
    assert jobs["accuracy.plain-s0"].cells == tuple(("accuracy", c, 0) for c in columns)


def test_columns_may_name_the_metric() -> None:
    rows = {"none": {"label": "no defence", "overrides": ["defense=[]"]}}
    columns = {"ssim": {"label": "SSIM", "metric": "ssim"}, "mse": {"label": "MSE", "metric": "mse"}}
    table = Table.from_config(config(rows=rows, columns=columns, seeds=[0], printed={}, findings=[]))
    (job,) = table.jobs()
    filled = fill_table(table, {job.id: record(1.0, metrics={"ssim": 0.5, "mse": 2.0})}, "paper")
    assert [filled.cells["none", c].value for c in ("ssim", "mse")] == [0.5, 2.0]


# --- layout ---------------------------------------------------------------------------------------------


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


def test_a_metric_that_the_record_lacks_is_reported() -> None:
    filled = lay([record(1, metrics={})] * 3, [None] * 3)
    assert filled.cells["iterations", "lenet"].state == "missing"
    assert filled.problems[0] == "lenet-s0: the record 0123456789ab has no iterations_to_zero"


def test_not_a_number_is_not_available() -> None:
    assert lay([record(math.nan)] * 3, [None] * 3).cells["iterations", "lenet"].value is None


def test_one_seed_has_no_deviation() -> None:
    filled = lay([record(20, 61)], [record(None)], seeds=[0])
    assert filled.cells["time", "lenet"].text == "1:01 (1)"
    assert filled.cells["iterations", "lenet"].text == "20 (1)"


def test_environments_are_told_apart() -> None:
    other = record(31, environment={"device": "cuda", "date": "2025-02-03", "versions": {"torch": "2.6"}})
    filled = lay([record(20), other, record(50)], [None] * 3)
    assert filled.environment == {
        "device": "cpu; cuda",
        "date": "2025-01-02 to 2025-02-03",
        "versions": "torch 2.5; torch 2.6",
    }


def test_the_command_repeats_what_was_given() -> None:
    table = Table.from_config(config(), "zen/table1")
    given = ["experiment=zen/table1", "scale=quick", "defense=[a,b]"]
    assert (
        fill_table(table, {}, "quick", given).command == "privsweep experiment=zen/table1 scale=quick 'defense=[a,b]'"
    )


# --- numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "value"),
    [("31", 31.0), ("0:45", 45.0), ("2:40", 160.0), ("77.2%", 77.2), ("1.5M", 1.5e6), ("12K", 12000.0),
     ("N/A", None), ("-0.3", -0.3), ("−0.3", -0.3), ("1e-3", 1e-3), ("0.5 ± 0.1", 0.5), ("35,112", 35112.0),
     ("Yes", 1.0), ("Yes2", 1.0), ("No", 0.0), ("perhaps", UNKNOWN), ("", UNKNOWN)],
)  # fmt: skip
def test_printed_numbers_are_read(printed: str, value: Any) -> None:
    assert parse(printed) == value


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [(31.4, None, "31.4"), (35112.3, None, "35112"), (4e-6, None, "4.0e-06"), (0.0, None, "0"), (114, "m:ss", "1:54"),
     (59.96, "m:ss", "1:00"), (2.26, "m:ss", "0:02.3"), (9.97, "m:ss", "0:10"), (77.24, ".1%", "77.2%"),
     (math.inf, "m:ss", "inf"), (math.inf, None, "inf"), (None, ".1f", "N/A")],
)  # fmt: skip
def test_numbers_are_written(value: float | None, form: str | None, text: str) -> None:
    assert show(value, form) == text


def test_a_share_is_compared_in_points() -> None:
    rows = {"share": {"label": "Share", "metric": "share", "format": ".1%"}}
    table = config(rows=rows, printed={"share": {"lenet": "50.0%"}}, findings=[], seeds=[0])
    filled = fill_table(Table.from_config(table), {"lenet-s0": record(0, metrics={"share": 0.525})}, "paper")
    cell = filled.cells["share", "lenet"]
    assert (cell.text, cell.difference_text) == ("52.5% (1)", "+2.5%")


# --- the tables that come with the program ---------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.rglob("*.yaml")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_experiment_holds_in_print_what_it_says(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# @package _global_\n# privsweep experiment=")
    name = f"{path.parent.name}/{path.stem}"
    with searching(None):
        config = compose([f"experiment={name}"]).config
    table = Table.from_config(config["table"], name, config.get("figure"))
    assert table.printed or table.findings  # of a figure the paper prints no numbers
    for finding in table.findings:
        assert table.in_print(finding) is finding.holds_in_print
    for cells in table.printed.values():
        assert UNKNOWN not in [parse(printed) for printed in cells.values()]


def test_the_tables_of_zen_are_there() -> None:
    assert {p.stem for p in (EXPERIMENTS / "zen").glob("*.yaml")} >= {"table1", "table2", "table3"}
