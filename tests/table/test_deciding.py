"""An open claim says what would decide it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm, t

from privsweep.table.deciding import seeds_needed
from privsweep.table.fill import fill_table
from privsweep.table.spec import Table
from tests.table.test_verdicts import FAR, NEAR, ONE, judged

CLAIM = {"id": "f1", "claim": "it is so", "holds_in_print": None}


def test_over_seeds_as_many_as_would_tell_the_difference_from_noise(tmp_path: Path) -> None:
    near = judged("v('ssim', 'a') > v('ssim', 'b')", NEAR, tmp_path)
    apart, deviation = 0.2 / 3, math.sqrt(0.07 / 3)
    enough = next(n for n in range(4, 99) if apart / (deviation / math.sqrt(n)) > -t.ppf(norm.cdf(-2), n - 1))
    assert near.more == f"about {enough} seeds would decide it"
    assert judged("v('ssim', 'a') > v('ssim', 'b')", FAR, tmp_path).more == ""


def test_a_difference_of_nearly_nothing_is_not_promised_to_be_found() -> None:
    assert seeds_needed(0.001, 5) is None
    assert seeds_needed(1.99, 5) == 6
    two, three = (seeds_needed(0.5, n) or 0 for n in (2, 3))
    assert 0 < two < three  # two seeds' error is widened most


@pytest.mark.parametrize(
    ("check", "more"),
    [
        ("v('ssim', 'a') > 0.75", "at most about 8 times the victims or examples, or other seeds, would decide it"),
        ("v('ssim', 'a') > 0.79999", "not even 1,000 times the victims or examples would decide it, other seeds might"),
        ("v('once', 'a') > 0.5", "other seeds would tell"),
        ("v('ssim', 'a') > v('ssim', 'b')", ""),
    ],
)
def test_with_one_seed_in_victims_or_by_other_seeds(check: str, more: str, tmp_path: Path) -> None:
    assert judged(check, ONE, tmp_path).more == more


@pytest.mark.parametrize(
    ("scale", "more"),
    [
        ("half", "needs more work than this scale does"),
        ("paper", "the paper's amount of work does not show it"),
    ],
)
def test_what_a_claim_presupposes_may_take_more_work(scale: str, more: str, tmp_path: Path) -> None:
    unmet = judged("v('ssim', 'a') > v('ssim', 'b')", ONE, tmp_path, scale=scale, presupposes="v('ssim', 'b') > 0.9")
    assert unmet.more == more


def test_what_it_presupposes_may_want_seeds_alone(tmp_path: Path) -> None:
    check, premise = "v('ssim', 'a') > 0", "v('ssim', 'a') > v('ssim', 'b')"
    seeds = judged(premise, NEAR, tmp_path).more
    assert seeds.endswith("seeds would decide it")
    assert judged(check, NEAR, tmp_path, presupposes=premise).more == seeds.replace("it", "what it presupposes")


def test_columns_whose_runs_are_missing_are_named_and_no_others() -> None:
    columns = {c: {"label": label, "overrides": [f"model={c}"]} for c, label in (("a", "one"), ("b", "two, of 3"))}
    columns |= {c: {"label": c, "overrides": [f"model={c}"]} for c in ("c", "d", "e", "f", "g")}
    checks = ["v('ssim', 'a') > v('ssim', 'b')", f"dec([v('ssim', c) for c in {[*'abcdefg']}])"]
    table = Table.from_config({
        "title": "t", "place": "p", "rows": {"ssim": {"label": "SSIM", "metric": "ssim"}}, "columns": columns,
        "seeds": [0, 1], "findings": [{**CLAIM, "id": f"f{i}", "check": check} for i, check in enumerate(checks)],
    })  # fmt: skip
    records: dict[str, Any] = {
        f"a-s{seed}": {"signature": f"a{seed}", "status": "complete", "metrics": {"ssim": 0.5}} for seed in (0, 1)
    }
    named, counted = (v.more for v in fill_table(table, records, "paper").verdicts)
    assert named == 'waits for "two, of 3"'
    assert counted == 'waits for "two, of 3", "c", "d", "e", 2 more'


def test_an_attack_that_got_there_in_some_seeds_only_is_told_from_one_that_has_not_run() -> None:
    rows = {"when": {"label": "iterations", "metric": "iterations", "aggregate": "median"}}
    table = Table.from_config({
        "title": "t", "place": "p", "rows": rows, "columns": {"a": {"label": "a", "overrides": ["model=a"]}},
        "seeds": [0, 1], "findings": [{**CLAIM, "check": "v('when', 'a') < 9"}],
    })  # fmt: skip
    metrics = ({"iterations": 5.0}, {"iterations": None})
    records: dict[str, Any] = {
        f"a-s{i}": {"signature": f"a{i}", "status": "complete", "metrics": m} for i, m in enumerate(metrics)
    }
    assert fill_table(table, records, "paper").verdicts[0].more == "some of its seeds got there and some did not"
