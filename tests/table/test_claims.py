"""Claims are judged with three values, and a stranger's expression runs no code."""

from __future__ import annotations

import time

import pytest

from privsweep.interface.errors import UserError
from privsweep.table.claims import holds
from privsweep.table.number_format import UNKNOWN, Number

CELLS: dict[tuple[str, str], Number] = {
    ("it", "a"): 31.0, ("it", "b"): None, ("it", "c"): 84.0,
    ("mse", "a"): 0.02, ("mse", "b"): 2.0, ("mse", "c"): UNKNOWN,
    ("ssim", "a"): 0.1, ("ssim", "b"): 0.2, ("ssim", "c"): 0.3,
}  # fmt: skip


def judge(check: str, series: tuple[str, ...] = ("a", "b", "c")) -> bool | None:
    return holds("f1", check, lambda r, c: CELLS[r, c], ["it", "mse", "ssim"], ["a", "b", "c"], series)


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        ("v('it', 'a') < v('it', 'c')", True),
        ("v('it', 'a') < 30 or v('it', 'c') == 84", True),
        ("0 < v('it', 'a') < v('it', 'c') < 80", False),
        ("none(v('it', 'b')) and not none(v('it', 'a'))", True),
        ("[none(x) for x in r('it')] == [False, True, False]", True),
        ("inc(r('ssim')) and not dec(r('ssim'))", True),
        ("inc([1, 1])", False),
        ("all(v('ssim', c) > 0 for c in ('a', 'b', 'c'))", True),
        ("any(x > 0.25 for x in r('ssim'))", True),
        ("len([c for c in ('a', 'b', 'c') if v('ssim', c) >= 0.2]) == 2", True),
        ("approx(v('ssim', 'a'), 0.12, 0.05)", True),
        ("all(v('s' + 'sim', c) > 0 for c in ('a', 'b', 'c'))", True),
        ("abs(v('ssim', 'a') - v('ssim', 'c')) > 0.1", True),
        ("max(r('ssim')) - min(r('ssim')) <= 0.21 and sum(r('ssim')) < 1", True),
        ("max(v('it', 'a'), v('it', 'c')) <= 300", True),
        ("v('it', 'c') > 2 * v('it', 'a') + 1 and -v('it', 'a') < 0 and v('it', 'c') / 2 == 42", True),
        ("v('it', 'a') != 31", False),
    ],
)
def test_decided(check: str, verdict: bool) -> None:
    assert judge(check) is verdict


@pytest.mark.parametrize(
    "check",
    [
        "v('mse', 'a') < v('mse', 'c')",  # missing
        "none(v('mse', 'c'))",  # a missing cell is not N/A
        "v('it', 'a') < v('it', 'b')",  # N/A compares with nothing
        "max(r('it')) <= 300",
        "inc(r('mse'))",
        "[none(x) for x in r('mse')] == [False, False, False]",
        "len([c for c in ('a', 'b', 'c') if v('mse', c) < 1]) == 1",
        "all(x < 5 for x in [y for y in r('mse') if y > 0])",
        "v('it', 'a') / 0 > 1",
    ],
)
def test_undecided(check: str) -> None:
    assert judge(check) is None


def test_a_missing_cell_does_not_hold_up_what_is_decided_without_it() -> None:
    assert judge("v('mse', 'c') < 1 and v('it', 'a') > 100") is False
    assert judge("v('mse', 'c') < 1 or v('it', 'a') < 100") is True
    assert judge("dec(r('mse'))") is False  # 0.02 before 2.0


def test_a_row_runs_over_the_given_columns() -> None:
    assert judge("len(r('ssim')) == 2", series=("a", "b")) is True


@pytest.mark.parametrize(
    "check",
    [
        "__import__('os').system('true')",
        "().__class__.__bases__",
        "open('x')",
        "eval('1')",
        "(lambda: 1)()",
        "v.__globals__",
        "v('it', 'a').real > 0",
        "[x for x in (1).__class__.mro()]",
        "f'{v}' == ''",
        "2 ** 99 > 1",
        "'a' * 1000000 == 'b'",
        "v('it', column='a') > 0",
        "v(*['it', 'a']) > 0",
        "v('nope', 'a') > 0",
        "v('it', 'nope') > 0",
        "v('it') > 0",
        "print(1)",
        "x > 1",
        "(y := 3) > 1",
        "v('it', 'a') is None",
        "1 if True else 2",
        "v('it', 'a')",
        "r('it')",
        "1; 2",
        "v('it', 'a') >",
        "(" * 500,
        "-" * 1500 + "1 > 0",
        "1 > " + "9" * 5000,
        "min([]) > 0",
        "all(1 > 0 for a, b in [[1, 2]])",
        "v('it', 'a') > 'text'",
        "none() and none(1, 2)",
        "False and open('x')",  # refused though nothing would evaluate it
        "[[1]] == [[1]]",
    ],
)
def test_refused_in_one_line_that_names_the_finding(check: str) -> None:
    with pytest.raises(UserError, match=r"^findings\.f1: ") as refusal:
        judge(check)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_loops_are_bounded() -> None:
    many = "[" + ",".join("1" * 1 for _ in range(200)) + "]"
    start = time.perf_counter()
    with pytest.raises(UserError, match="steps"):
        judge(f"all(a + b + c > 0 for a in {many} for b in {many} for c in {many})")
    assert time.perf_counter() - start < 2
