"""Columns that go below each other where they do not fit."""

from __future__ import annotations

import io

from rich.console import Console

from privsweep.report.bands import Column, bands, room


def shown(first: list[Column], each: list[Column], columns: list[Column], width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(bands(first, each, columns, width))
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip("─ \n")]  # type: ignore[attr-defined]


def test_what_fits_to_the_last_character_stands_side_by_side() -> None:
    key, columns = [Column(["key"], ["a"])], [Column([name * 4], ["1"], "right") for name in "xyz"]
    assert room([*key, *columns]) == 21
    assert shown(key, key, columns, 21) == ["key  xxxx  yyyy  zzzz", "a       1     1     1"]
    assert shown(key, key, columns, 20) == ["key  xxxx  yyyy", "a       1     1", "key  zzzz", "a       1"]


def test_keys_that_leave_no_room_stand_alone_and_what_is_too_wide_is_not_lost() -> None:
    key, number = Column(["key"], ["a" * 12]), Column(["#"], ["1"])
    columns = [Column(["x"], ["1.5"])]
    assert shown([number, key], [number], columns, 16) == ["#  key", f"1  {'a' * 12}", "#  x", "1  1.5"]
    assert shown([key], [key], columns, 16) == ["key          x", f"{'a' * 11}  1.5", "a"]


def test_a_key_is_folded_between_words_where_it_may_take_no_more() -> None:
    key = [Column([""], ["one two", "three"], most=5)]
    assert shown(key, key, [Column(["x"], ["1", "2"])], 80) == ["       x", "one    1", "two", "three  2"]
