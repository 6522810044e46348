"""The page of everything."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import pytest
from report_world import NOTED, NOTES, lay, record

from privsweep.report.html import page


def test_the_page_of_a_record_with_little_in_it() -> None:
    assert "seed ?" in page([{"signature": "a"}], [], [], Path)


def test_every_note_is_there() -> None:
    text = page([], [lay(**NOTED)], [], Path)
    assert all(html.escape(note, quote=False).replace("'", "&#39;") in text for note in NOTES)


@pytest.mark.parametrize("name", ["reconstructions.png", "curve.png", "roc.png"])
def test_a_runs_pictures_are_shown(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a picture")
    text = page([record(0, 0.5)], [], [], lambda signature: tmp_path)
    assert f'src="data:image/png;base64,{base64.b64encode(b"a picture").decode()}" alt="{name}"' in text
