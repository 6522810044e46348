"""``scripts/thresholds.py``: every section has two ways that can be measured."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import pytest
import thresholds


class EnoughError(Exception):
    """The first line of a section is made of the same stuff as the others."""


@pytest.mark.parametrize("section", thresholds.SECTIONS)
def test_a_section_compares_two_ways(section: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def once(title: str, turns: Sequence[Callable[[], object]]) -> None:
        for turn in turns:
            turn()
        raise EnoughError(len(turns))

    monkeypatch.setattr(thresholds, "compare", once)
    monkeypatch.setattr(sys, "argv", ["thresholds.py", "--only", section])
    with pytest.raises(EnoughError, match="2"):
        thresholds.main()
