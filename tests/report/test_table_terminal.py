"""Tables in the terminal."""

from __future__ import annotations

import io

import pytest
from report_world import lay, wide
from rich.console import Console

from privsweep.report.table_terminal import table_terminal


def test_the_terminal_shows_text_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table_terminal(lay(), console.width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]" in text
    assert "not held  One hides" in text
    assert "3 of 4 runs complete" in text


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_wide_table_fits_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(table_terminal(wide(26), console.width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert all(text.count(f"Number {i:02d}") == 1 for i in range(26))


@pytest.mark.parametrize("width", [60, 80, 120, 160])
def test_no_number_is_broken(width: int) -> None:
    filled = wide(26, (0.801e-5, 0.852e-5), rows={"ssim": {"label": "SSIM", "metric": "ssim"}})
    console = Console(file=io.StringIO(), width=width)
    console.print(table_terminal(filled, console.width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("8.3e-06 ± 3.6e-07 (2)") == 26
