"""Verdicts on whether an attack is weakened."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from table_world import JUDGED, config, record

from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.number_format import UNKNOWN
from privsweep.table.significance import weakens
from privsweep.table.spec import Table


def judged(base: list[float], batch: list[float], depth: list[float]) -> FilledTable:
    table = Table.from_config(config(**JUDGED))
    values = {"base": base, "adapted.batch": batch, "adapted.depth": depth}
    records = {
        job.id: record(None, metrics={"ssim": values[job.id.rpartition("-s")[0]][int(job.id[-1])]})
        for job in table.jobs()
    }
    return fill_table(table, records, "paper")


def test_a_verdict_is_computed_from_the_runs_without_and_with_and_stands_beside_the_papers() -> None:
    filled = judged([0.90, 0.92], [0.10, 0.13], [0.95, 0.98])
    batch, depth = filled.cells["verdict", "batch"], filled.cells["verdict", "depth"]
    assert (batch.value, batch.text[:4], batch.difference_text) == (1.0, "Yes ", "agrees")
    assert (depth.value, depth.text[:3], depth.difference_text) == (0.0, "No ", "differs")
    assert filled.verdicts[0].holds is False


def test_a_difference_within_the_error_is_no_verdict() -> None:
    filled = judged([0.90, 0.92], [0.10, 0.13], [0.80, 0.98])
    depth = filled.cells["verdict", "depth"]
    assert (depth.value, depth.text[:10], depth.difference_text, depth.state) == (UNKNOWN, "undecided ", "", "complete")
    assert (filled.verdicts[0].holds, filled.verdicts[0].more) == (None, "more seeds would decide its cells")


def test_no_says_that_a_weakening_worth_the_name_is_ruled_out() -> None:
    base = {s: 1.0 + 0.1 * s for s in range(5)}
    assert weakens(base, {s: v - 0.01 - 0.001 * s for s, v in base.items()}, True)[0] == 1  # little, but sure
    assert weakens(base, {s: v - 0.01 * (-1) ** s for s, v in base.items()}, True)[0] == 0
    assert weakens(base, {s: v - 0.1 * (-1) ** s for s, v in base.items()}, True)[0] is UNKNOWN
    assert weakens(base, {s: v + 0.2 + 0.1 * s for s, v in base.items()}, True)[0] == 0
    near_chance = {s: 54.0 + 0.1 * s for s in range(5)}  # percent: one point is a fourth of what the attack has
    assert weakens(near_chance, {s: v - 0.5 * (-1) ** s for s, v in near_chance.items()}, True)[0] == 0
    assert weakens(near_chance, {s: v - 0.5 * (-1) ** s for s, v in near_chance.items()}, True, 50.0)[0] is UNKNOWN


def test_shares_of_few_victims_that_are_the_same_under_every_seed_are_no_verdict(tmp_path: Path) -> None:
    rows = {row: {**own, "metric": "recovered"} for row, own in config(**JUDGED)["rows"].items() if row != "verdict"}

    def verdict(without: int, adapted: int, of: int) -> object:
        table = Table.from_config(config(**{**JUDGED, "rows": {**JUDGED["rows"], **rows}}))
        records = {}
        for job in table.jobs():
            share = (without if job.id.startswith("base") else adapted) / of
            (tmp_path / job.id).mkdir(exist_ok=True)
            pd.DataFrame({"index": range(of)}).to_csv(tmp_path / job.id / "victims.csv", index=False)
            records[job.id] = {**record(None, metrics={"recovered": share}), "signature": job.id}
        return fill_table(table, records, "paper", folder=lambda sign: tmp_path / sign).cells["verdict", "batch"].value

    assert [verdict(*shares, 8) for shares in ((0, 0), (2, 1), (1, 2))] == [UNKNOWN] * 3
    assert (verdict(8, 1, 8), verdict(1, 7, 8)) == (1, 0)


def test_a_verdict_needs_both_sides_and_two_seeds() -> None:
    table = Table.from_config(config(**JUDGED))
    filled = fill_table(table, {}, "paper")
    assert filled.cells["verdict", "batch"].text == "missing"
    assert filled.verdicts[0].holds is None
    assert weakens({0: 0.9}, {0: 0.1}, True) == (UNKNOWN, None)
    assert weakens({0: 0.9, 1: 0.9}, {0: 0.9, 1: 0.9}, True)[0] == 0
    assert weakens({0: 5.0, 1: 6.0}, {0: None, 1: None}, False)[0] == 1
    assert weakens({0: 5.0, 1: 6.0}, {0: None, 1: 5.5}, False)[0] is UNKNOWN
    assert weakens({0: None, 1: None}, {0: None, 1: None}, False)[0] == 0


def test_seeds_are_compared_each_with_itself() -> None:
    apart = {0: 0.5, 1: 0.9, 2: 0.7}  # the seeds differ more than the sides
    yes, errors = weakens(apart, {s: v - 0.1 - 0.01 * s for s, v in apart.items()}, True)
    assert (yes, errors) == (1.0, pytest.approx(0.11 / (2.264 * 0.01 / 3**0.5), rel=1e-3))
