"""Tables as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from report_world import NOTED, NOTES, lay, wide

from privsweep.report.table_png import table_png
from privsweep.report.write import write


def test_the_picture_is_legible(tmp_path: Path) -> None:
    path = write(lay("quick"), tmp_path)[-1]
    assert imread(path).shape[1] > 900


def test_bands_stand_below_each_other(tmp_path: Path) -> None:
    one, three = (imread(write(filled, tmp_path / str(n))[-1]) for n, filled in ((1, wide(10)), (3, wide(26))))
    assert three.shape[1] == one.shape[1]
    assert three.shape[0] > one.shape[0]


def test_every_note_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    write_text = Figure.text

    def text(self: Figure, x: float, y: float, s: str, **how: Any) -> Any:
        drawn.append(" ".join(s.split()))
        assert 0 < y < 1
        return write_text(self, x, y, s, **how)

    monkeypatch.setattr(Figure, "text", text)
    table_png(tmp_path / "t.png", lay(**NOTED))
    assert all(any(note in line for line in drawn) for note in NOTES)
