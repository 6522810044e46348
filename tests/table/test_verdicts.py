"""A claim is decided where what it compares differs by more than noise."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy.stats import norm, t

from privsweep.interface.errors import UserError
from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.spec import Table
from privsweep.table.verdicts import Verdict

ROWS = {
    "ssim": {"label": "SSIM", "metric": "ssim"},
    "asr": {"label": "ASR", "metric": "asr", "format": ".1%"},
    "half": {"label": "median", "metric": "ssim_median"},
    "over": {"label": "median over seeds", "metric": "ssim", "aggregate": "median"},
    "when": {"label": "iterations", "metric": "iterations_to_zero"},
    "auc": {"label": "AUC", "metric": "auc"},
    "once": {"label": "once", "metric": "shadow_accuracy"},
    "bytes": {"label": "bytes", "metric": "bytes_up"},
    "all": {"label": "all", "metric": "recovered", "format": ".0%"},
    "sure": {"label": "sure", "metric": "auc_once"},
    "accuracy": {"label": "accuracy", "metric": "utility.test_accuracy", "format": ".1%"},
    "zeros": {"label": "zeros", "metric": "utility.zeros", "format": ".1%"},
    "time": {"label": "time", "metric": "seconds.attack"},
    "change": {"label": "change", "metric": "ssim", "minus": "b"},
}


ZEROS = {"zeros": 0.3, "zeros_low": 0.2, "zeros_high": 0.4}


def judged(
    check: str,
    values: Mapping[str, Sequence[Sequence[float]]],
    folder: Path,
    accuracy: Mapping[str, float] | None = None,
    scale: str = "quick",
    **finding: Any,
) -> Verdict:
    """``values``: column -> seed -> victim -> SSIM; an image counts as recovered above 0.5."""
    claim = {"id": "f1", "claim": "it is so", "check": check, "holds_in_print": None, **finding}
    table = Table.from_config({
        "title": "t", "place": "p", "rows": ROWS, "seeds": [*range(len(next(iter(values.values()))))],
        "columns": {c: {"label": c, "overrides": [f"model={c}"]} for c in values}, "findings": [claim],
    })  # fmt: skip
    records = {}
    for column, seeds in values.items():
        for seed, each in enumerate(seeds):
            sign = f"{column}{seed}"
            frame = pd.DataFrame({"victim": range(len(each)), "index": range(len(each)), "ssim": each})
            frame["iterations_to_zero"] = each
            frame["asr"], frame["shadow_accuracy"] = (frame["ssim"] > 0.5).astype(float), 0.75
            (folder / sign).mkdir(exist_ok=True)
            frame.to_csv(folder / sign / "victims.csv", index=False)
            metrics = {name: frame[name].mean() for name in ("ssim", "asr", "shadow_accuracy")}
            metrics |= {"ssim_median": frame["ssim"].median(), "bytes_up": 800.0 + len(column)}
            metrics["iterations_to_zero"] = frame["iterations_to_zero"].median()
            metrics |= {"recovered": 1.0, "auc_once": 1.0}
            metrics |= {"auc": 0.6, "auc_low": 0.6 - 1.96 * 0.03, "auc_high": 0.6 + 1.96 * 0.03}
            records[f"{column}-s{seed}"] = {
                "signature": sign, "status": "complete", "metrics": metrics, "sizes": {"test": 400},
                "utility": {"test_accuracy": (accuracy or {}).get(column, 0.5), **ZEROS}, "seconds": {"attack": 1.0},
            }  # fmt: skip
    filled: FilledTable = fill_table(table, records, scale, folder=lambda sign: folder / sign)
    return filled.verdicts[0]


FAR = {"a": [[0.79], [0.8], [0.81]], "b": [[0.19], [0.2], [0.21]]}  # means 0.8 and 0.2, the same draws in both
NEAR = {"a": [[0.7], [0.3], [0.8]], "b": [[0.5], [0.4], [0.7]]}


def test_over_seeds_a_difference_counts_beyond_twice_its_standard_error(tmp_path: Path) -> None:
    far = judged("v('ssim', 'a') > v('ssim', 'b')", FAR, tmp_path)
    assert (far.holds, far.leaning, far.margin) == (True, True, math.inf)  # seed by seed they differ by the same
    near = judged("v('ssim', 'a') > v('ssim', 'b')", NEAR, tmp_path)
    assert (near.holds, near.leaning) == (None, True)
    usual = (0.2 / 3) / (math.sqrt(0.07 / 3) / math.sqrt(3))  # of 0.2, -0.1, 0.1
    as_seldom = -t.ppf(norm.cdf(-2), 2) / 2  # of three seeds, as two standard errors of many
    assert near.margin == pytest.approx(usual / as_seldom)
    assert near.margin_text == "holds by 0.3 standard errors only"
    assert judged("v('ssim', 'a') < 0.6", FAR, tmp_path).holds is False
    assert judged("v('ssim', 'a') > 0.79", FAR, tmp_path).holds is None


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ("v('ssim', 'a') - v('ssim', 'b') > 0.5 and v('ssim', 'b') < 0.45", True),
        ("all(v('ssim', c) > 0.05 for c in ('a', 'b'))", True),
        ("all(v('ssim', c) > 0.21 for c in ('a', 'b'))", None),  # 0.2 is not told from 0.21
        ("any(v('ssim', c) > 0.25 for c in ('a', 'b'))", True),  # 0.8 is enough
        ("approx(v('ssim', 'a'), v('ssim', 'b') + 0.6, 0.01)", True),
        ("approx(v('ssim', 'a'), 0.8, 0.01)", None),
        ("dec(r('ssim'))", True),
        ("max(r('ssim')) - min(r('ssim')) > 0.5", True),
        ("sum(r('ssim')) / 2 == 0.5", None),
        ("v('ssim', 'a') / v('ssim', 'b') > 1.5", True),
        ("2 - v('ssim', 'a') > 1 / v('ssim', 'b')", False),
        ("abs(-v('ssim', 'a')) > 2 * 0.1", True),
        ("v('change', 'a') > 0.5", True),
        ("v('change', 'b') == 0", True),
        ("v('asr', 'a') == 100 and v('asr', 'b') == 0", True),
        ("not v('ssim', 'a') > v('ssim', 'b')", False),
    ],
)
def test_what_is_computed_of_cells_varies_as_they_do(check: str, holds: bool | None, tmp_path: Path) -> None:
    assert judged(check, FAR, tmp_path).holds is holds


LOOSE = {"a": [[0.8]] * 3, "b": [[0.3], [0.77], [1.0]], "c": [[0.1]] * 3}  # b may be the greatest, too


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        ("max(r('ssim')) < 0.9", None),
        ("0.9 > max(r('ssim'))", None),
        ("max(r('ssim')) > 0.7", True),  # a is
        ("2 * min(r('ssim')) + 1 < 1.3", True),
        ("v('ssim', 'a') == max(r('ssim'))", None),
        ("v('ssim', 'c') == min(v('ssim', 'a'), v('ssim', 'c'))", True),
        ("v('ssim', 'a') == min(r('ssim'))", False),
        ("max(r('ssim')) - min(r('ssim')) <= 0.75", None),
        ("v('ssim', 'a') - (max(r('ssim')) - v('ssim', 'c')) < 0.2", True),
        ("abs(max(r('ssim')) - 1) <= 0.95 and 1 / min(r('ssim')) > 5 and -max(r('ssim')) / 2 < -0.3", True),
        ("log10(max(v('ssim', 'a'), v('ssim', 'c'))) > -0.2", True),
        ("max(v('ssim', 'a'), v('ssim', 'b')) > max(v('ssim', 'c'), 0.2)", True),
    ],
)
def test_an_extreme_is_as_uncertain_as_whatever_may_be_it(check: str, holds: bool | None, tmp_path: Path) -> None:
    assert judged(check, LOOSE, tmp_path).holds is holds


DECADES = {"a": [[3e14], [9e14], [5e14]], "b": [[20.0], [160.0], [40.0]], "zero": [[0.0], [1.0], [2.0]]}


def test_numbers_over_decades_are_compared_by_their_logarithms_seed_by_seed(tmp_path: Path) -> None:
    assert judged("v('ssim', 'a') > 1000 * v('ssim', 'b')", DECADES, tmp_path).holds is None
    by = judged("log10(v('ssim', 'a')) - log10(v('ssim', 'b')) > 3", DECADES, tmp_path)
    apart = [math.log10(a[0] / b[0]) - 3 for a, b in zip(DECADES["a"], DECADES["b"], strict=True)]
    usual = statistics.fmean(apart) / (statistics.stdev(apart) / math.sqrt(3))
    assert (by.holds, by.margin) == (True, pytest.approx(usual / (-t.ppf(norm.cdf(-2), 2) / 2)))
    assert judged("inc([log10(v('ssim', c)) for c in ('b', 'a')])", DECADES, tmp_path).holds is True
    assert judged("log10(v('ssim', 'zero')) < log10(v('ssim', 'a'))", DECADES, tmp_path).holds is None
    assert judged("log10(1000) == 3", DECADES, tmp_path).holds is True


def test_with_one_seed_a_logarithm_varies_as_its_victims_do(tmp_path: Path) -> None:
    plain = judged("v('ssim', 'a') > 0.75", ONE, tmp_path).margin
    assert plain is not None
    in_logs = math.log(0.8 / 0.75) / ((0.8 - 0.75) / 0.8) * plain
    assert judged(f"log10(v('ssim', 'a')) > {math.log10(0.75)}", ONE, tmp_path).margin == pytest.approx(in_logs)


def test_a_logarithm_is_of_a_cell_as_it_stands(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="log10 takes one cell as it stands"):
        judged("log10(v('ssim', 'a') + v('ssim', 'b')) > 0", FAR, tmp_path)
    assert judged("log10(v('change', 'a')) > -1", FAR, tmp_path).holds is None


ONE = {"a": [[0.7, 0.8, 0.9, 0.8]], "b": [[0.5, 0.6, 0.7, 0.6]], "c": [[0.4, 0.9, 0.3, 0.9]]}


def test_one_seed_counts_over_its_victims_each_with_itself(tmp_path: Path) -> None:
    assert judged("v('ssim', 'a') > v('ssim', 'b')", ONE, tmp_path).margin == math.inf
    against = judged("v('ssim', 'a') > v('ssim', 'c')", ONE, tmp_path)
    apart = pd.Series([0.3, -0.1, 0.6, -0.1])
    of_four = -t.ppf(norm.cdf(-2), 3) / 2  # victims, as seldom as two standard errors of many
    assert against.margin == pytest.approx(apart.mean() / apart.sem() / of_four)
    assert against.holds is None
    assert against.margin_text == f"holds by {against.margin:.1f} standard errors only within one run"
    same = judged("v('ssim', 'a') > v('ssim', 'a') + 0 * v('ssim', 'c')", ONE, tmp_path)
    assert same.holds is False


def test_a_median_over_the_victims_of_one_run_is_as_uncertain_as_its_interval_is_wide(tmp_path: Path) -> None:
    # But for one of 26 times the median of all is from the second of nine, 0.4, to the last but one, 0.7.
    nine = {"a": [[0.1, 0.4, 0.5, 0.5, 0.55, 0.6, 0.6, 0.7, 0.9]], "b": [[0.0] * 9]}
    assert judged("v('half', 'a') > 0.5", nine, tmp_path).margin == pytest.approx(0.05 / (0.15 / 2))
    assert judged("v('half', 'a') < 0.75", nine, tmp_path).holds is True
    in_logs = judged("log10(v('half', 'a')) < log10(0.75)", nine, tmp_path).margin
    assert in_logs == pytest.approx(2 * math.log(0.75 / 0.55) / math.log(0.55 / 0.4))
    for of in (5, 6):  # fewer are all on one side of it once in 16 times
        few = {"a": [[0.3, 0.31, 0.32, 0.33, 0.34, 0.35][:of]], "b": [[0.0] * of]}
        assert judged("v('half', 'a') > 0.1", few, tmp_path).holds is (True if of == 6 else None)


def test_medians_of_victims_in_two_heaps_are_not_told_apart_by_chance(tmp_path: Path) -> None:
    low, high = [0.10, 0.11, 0.12, 0.10, 0.11, 0.12, 0.11, 0.1, 0.11], [0.90, 0.91, 0.92, 0.90, 0.91, 0.92, 0.9]
    heaps = {"a": [low + high], "b": [[*low[:7], *high, 0.9, 0.92]]}  # nine of 16 here, seven there
    verdict = judged("v('half', 'a') < v('half', 'b')", heaps, tmp_path)
    assert (verdict.holds, verdict.leaning) == (None, True)


def test_medians_of_seeds_in_two_heaps_are_not_told_apart_by_chance(tmp_path: Path) -> None:
    """Ten seeds, of which six are high here and four there."""
    heaps = {
        c: [[0.9 if seed in high else 0.1] for seed in range(10)] for c, high in (("a", range(6)), ("b", range(4, 8)))
    }
    verdict = judged("v('over', 'a') > v('over', 'b')", heaps, tmp_path)
    assert (verdict.holds, verdict.leaning) == (None, True)
    apart = {"a": [[0.90 + 0.001 * seed] for seed in range(10)], "b": [[0.1 + 0.002 * seed] for seed in range(10)]}
    assert judged("v('over', 'a') > v('over', 'b')", apart, tmp_path).holds is True


def test_where_some_victims_never_get_there_the_median_of_when_has_an_error(tmp_path: Path) -> None:
    some, many = ([5.0] * (10 - n) + [9.0] * 2 + [math.inf] * n for n in (2, 5))
    when = {"a": [some], "b": [many]}
    assert judged("v('when', 'a') < 30", when, tmp_path).holds is True
    unsure = judged("v('when', 'b') < 30", when, tmp_path)
    assert (unsure.holds, unsure.margin_text) == (None, "holds, with an unknown error")


def test_what_one_run_measures_once_decides_nothing_and_what_it_counts_does(tmp_path: Path) -> None:
    assert judged("v('auc', 'a') > 0.5", ONE, tmp_path).margin == pytest.approx(0.1 / 0.03, rel=1e-3)
    zeros = judged("v('zeros', 'a') > 15", ONE, tmp_path)
    assert zeros.margin == pytest.approx(15 * 1.96 / 10, rel=1e-3)  # what of the utility has an interval
    for row in ("once", "time"):
        verdict = judged(f"v('{row}', 'a') > 0.1", ONE, tmp_path)
        assert (verdict.holds, verdict.margin_text) == (None, "holds, with an unknown error")
    assert judged("v('bytes', 'a') == 801", ONE, tmp_path).margin_text == "no spread in what decides it"
    for row in ("all", "sure"):  # shares of one, however whole they are
        assert judged(f"v('{row}', 'a') > 0.9", ONE, tmp_path).margin_text == "holds, with an unknown error"
    apart = judged("v('accuracy', 'a') > v('accuracy', 'b')", ONE, tmp_path, {"a": 0.6})
    assert apart.margin == pytest.approx(0.1 / math.sqrt((0.24 + 0.25) / 400))
    assert apart.holds is True


def test_none_or_all_of_few_victims_is_not_exact(tmp_path: Path) -> None:
    few = {"a": [[0.1] * 4], "b": [[0.2] * 4]}
    assert judged("v('asr', 'a') == 0", few, tmp_path).holds is True  # of these victims it is
    least = math.sqrt(2 / 8 * 6 / 8 / 8)  # Agresti and Coull's error of 0 of 4
    assert judged("v('asr', 'a') < 50", few, tmp_path).margin == pytest.approx(0.5 / least)
    assert judged("v('asr', 'a') < v('asr', 'b')", few, tmp_path).margin_text == "fails, by two that are equal"
    assert judged("v('asr', 'a') <= 5", few, tmp_path).margin == pytest.approx(0.05 / least)  # of others it may not be
    many = {"a": [[0.1] * 64], "b": [[0.7] * 64]}
    assert judged("v('asr', 'a') < v('asr', 'b')", many, tmp_path).holds is True


def test_none_of_few_victims_is_not_exact_because_every_seed_says_so(tmp_path: Path) -> None:
    seeds = {"a": [[0.1] * 4] * 2, "b": [[0.2, 0.3, 0.2, 0.7]] * 2}
    assert judged("v('asr', 'a') == 0", seeds, tmp_path).holds is True
    none, one = (math.sqrt(p * (1 - p) / 12) for p in (2 / 12, 4 / 12))  # of eight: none, and one in each seed
    apart = judged("v('asr', 'a') < v('asr', 'b')", seeds, tmp_path)
    assert (apart.holds, apart.margin) == (None, pytest.approx(0.25 / math.hypot(none, one)))
    assert judged("v('asr', 'a') > 0", seeds, tmp_path).margin_text == "fails, by two that are equal"
    whole = judged("v('ssim', 'a') < v('ssim', 'b')", seeds, tmp_path)  # no share
    assert whole.margin_text == "no spread in what decides it"


def test_that_a_share_is_above_none_is_shown_by_one_seed(tmp_path: Path) -> None:
    """Over the seeds it varies widely, and under none can it be below nothing."""
    seeds = {"a": [[0.7] * 12 + [0.1] * 4, [0.1] * 16], "b": [[0.7] + [0.1] * 15, [0.1] * 16]}
    above = judged("v('asr', 'a') > 0", seeds, tmp_path)
    assert (above.holds, above.margin) == (True, pytest.approx(0.75 / math.sqrt(0.75 * 0.25 / 16)))
    assert judged("v('asr', 'a') == 0", seeds, tmp_path).holds is False
    assert judged("max(v('asr', 'a'), v('asr', 'b')) > 0", seeds, tmp_path).holds is True
    one = judged("v('asr', 'b') > 0", seeds, tmp_path)  # of 16 one says little of how many there are
    assert (one.holds, one.margin) == (None, pytest.approx(1 / 16 / math.sqrt(1 / 16 * 15 / 16 / 16)))
    assert judged("v('ssim', 'a') > 0", {**seeds, "a": [[0.9] * 16, [0.1] * 16]}, tmp_path).holds is None, "no share"
    for other in ("v('asr', 'a') > 5", "v('asr', 'a') > v('asr', 'b')"):
        assert judged(other, seeds, tmp_path).holds is None


def test_candidates_that_columns_share_are_compared_one_by_one(tmp_path: Path) -> None:
    def filled(own: Sequence[bool]) -> Verdict:
        rows = {"acc": {"label": "accuracy", "metric": "attack_accuracy", "format": ".1%"}}
        claim = {"id": "f1", "claim": "c", "check": "v('acc', 'a') > v('acc', 'b')", "holds_in_print": None}
        table = Table.from_config({
            "title": "t", "place": "p", "rows": rows, "seeds": [0], "findings": [claim],
            "columns": {c: {"label": c, "overrides": [f"model={c}"]} for c in "ab"},
        })  # fmt: skip
        records = {}
        for column, right in (("a", [True] * 60 + [False] * 40), ("b", own)):
            (tmp_path / column).mkdir(exist_ok=True)
            member = [i % 2 == 0 for i in range(100)]
            frame = pd.DataFrame({"candidate": range(100), "index": range(100), "member": member})
            frame["decision"] = frame["member"] == pd.Series(right)
            frame.to_csv(tmp_path / column / "victims.csv", index=False)
            ends = {"": 0.0, "_low": -0.1, "_high": 0.1}
            metrics = {f"attack_accuracy{end}": sum(right) / 100 + by for end, by in ends.items()}
            records[f"{column}-s0"] = {"signature": column, "status": "complete", "metrics": metrics}
        return fill_table(table, records, "quick", folder=lambda sign: tmp_path / sign).verdicts[0]

    assert filled([True] * 50 + [False] * 50).holds is True  # ten that only one of them told
    assert filled([i % 2 == 0 for i in range(100)]).holds is None


def test_what_some_seeds_reach_and_others_do_not_is_not_known(tmp_path: Path) -> None:
    table = Table.from_config({
        "title": "t", "place": "p", "seeds": [0, 1], "columns": {"a": {"label": "a"}},
        "rows": {"n": {"label": "iterations", "metric": "iterations", "aggregate": "median"}},
        "findings": [{"id": "f1", "claim": "c", "check": "none(v('n', 'a'))", "holds_in_print": None}],
    })  # fmt: skip

    def verdict(*reached: float | None) -> bool | None:
        records = {
            f"a-s{n}": {"signature": f"{n}", "status": "complete", "metrics": {"iterations": value}}
            for n, value in enumerate(reached)
        }
        return fill_table(table, records, "quick", folder=lambda sign: tmp_path / sign).verdicts[0].holds

    assert (verdict(None, None), verdict(None, 64), verdict(60, 64)) == (True, None, False)


def test_a_claim_whose_premise_is_not_shown_is_undecided(tmp_path: Path) -> None:
    check, premise = "v('ssim', 'b') < v('ssim', 'a')", "v('ssim', 'a') > {}"
    assert judged(check, FAR, tmp_path, presupposes=premise.format(0.5)).holds is True
    for bound in (0.79, 0.95):  # not told from it, and below it
        verdict = judged(check, FAR, tmp_path, presupposes=premise.format(bound))
        assert (verdict.holds, verdict.margin_text) == (None, "what it presupposes is not shown")


def test_why_a_claim_does_not_hold_is_shown_by_cells_too(tmp_path: Path) -> None:
    check, reason = "v('ssim', 'b') > v('ssim', 'a')", {"because": "a is strong", "check": "v('ssim', 'a') > {}"}
    for bound, expected in ((0.5, True), (0.79, None), (0.95, False)):
        explained = {**reason, "check": reason["check"].format(bound)}
        verdict = judged(check, FAR, tmp_path, explained=explained)
        assert (verdict.holds, verdict.explained) == (False, expected)
        assert judged(f"not ({check})", FAR, tmp_path, explained=explained).explained is None, (
            "what holds needs no reason"
        )
    with pytest.raises(UserError, match=r"findings\.f1: no row 'sssim'"):
        judged(check, FAR, tmp_path, explained={**reason, "check": "v('sssim', 'a') > 0"})


def test_a_premise_that_print_contradicts_is_no_premise() -> None:
    claim = {"id": "f1", "claim": "c", "check": "v('x', 'a') > 1", "presupposes": "v('x', 'a') > 5"}
    with pytest.raises(UserError, match=r"findings\.f1: presupposes: does not hold over the printed numbers"):
        Table.from_config({
            "title": "t", "place": "p", "seeds": [0], "rows": {"x": {"label": "x", "metric": "mse"}},
            "columns": {"a": {"label": "a"}}, "printed": {"x": {"a": "3"}},
            "findings": [{**claim, "holds_in_print": True}],
        })  # fmt: skip


def test_where_cells_without_a_printed_number_decide_print_is_what_the_claim_says_of_it() -> None:
    def in_print(check: str, says: bool | None) -> bool | None:
        claim = {"id": "f1", "claim": "c", "check": check, "holds_in_print": says}
        table = Table.from_config({
            "title": "t", "place": "p", "seeds": [0], "rows": {"x": {"label": "x", "metric": "mse"}},
            "columns": {c: {"label": c} for c in "ab"}, "printed": {"x": {"a": "3"}}, "findings": [claim],
        })  # fmt: skip
        return table.in_print(table.findings[0])

    both = "v('x', 'a') > 1 and v('x', 'b') > 1"
    assert [in_print(both, says) for says in (True, False, None)] == [True, False, None]
    assert in_print("v('x', 'a') > 1 or v('x', 'b') > 1", None) is True


def test_cells_of_the_same_runs_are_equal_whatever_their_noise(tmp_path: Path) -> None:
    """Their accuracy has a standard error over test examples, which cancels."""
    claim = {
        "id": "f1",
        "claim": "the same",
        "check": "v('accuracy', 'a') == v('accuracy', 'b')",
        "holds_in_print": None,
    }
    other = {**claim, "id": "f2", "check": "v('accuracy', 'a') == v('accuracy', 'c')"}
    columns = {c: {"label": c, "overrides": ["model=c" if c == "c" else "model=a"]} for c in "abc"}
    rows = {"accuracy": ROWS["accuracy"]}
    table = Table.from_config(
        {"title": "t", "place": "p", "rows": rows, "seeds": [0], "columns": columns, "findings": [claim, other]}
    )
    record = {"status": "complete", "metrics": {}, "sizes": {"test": 400}, "utility": {"test_accuracy": 0.5}}
    records = {f"{c}-s0": {"signature": c, **record} for c in "ac"}
    same, apart = fill_table(table, records, "quick", folder=lambda sign: tmp_path / sign).verdicts
    assert (same.holds, same.margin) == (True, math.inf)
    assert apart.holds is None
