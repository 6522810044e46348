"""Numbers as papers print them."""

from __future__ import annotations

import math
from typing import Any

import pytest

from privsweep.table.number_format import UNKNOWN, parse, show


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


def test_nothing_has_no_sign() -> None:
    assert [show(-0.001, ".2f"), show(-0.01, ".0%"), show(-0.2, ".0f"), show(-0.001, ".2f", signed=True)] == [
        "0.00", "0%", "0", "0.00",
    ]  # fmt: skip
    assert (show(-0.004, None), show(-0.5, ".2f"), show(0.001, ".2f", signed=True)) == ("-0.004", "-0.50", "+0.00")
