"""What the terminal shows, of hostile strings too."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from privsweep.cli import terminal

HOSTILE = "\x1b]0;owned\x07 [bold red]x[/] [link=http://example.org]y[/link] \\[b] :warning: \\"


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed on either stream, by consoles like those of the command."""
    out = io.StringIO()
    for name in ("out", "err"):
        console = Console(file=out, width=400, highlight=False, emoji=False)
        monkeypatch.setattr(terminal, name, console)
    return out


def is_safe(written: str) -> bool:
    return written.isprintable() and all(part in written for part in HOSTILE.split(" ")[1:])


def test_a_complaint_is_shown_as_it_is(shown: io.StringIO) -> None:
    terminal.complain(f"dataset={HOSTILE}: no such choice\nmodel=x: neither")
    first, second = shown.getvalue().splitlines()
    assert is_safe(first)
    assert second == "privsweep: model=x: neither"


def test_a_record_is_shown_as_it_is(shown: io.StringIO, tmp_path: Path) -> None:
    record: dict[str, Any] = {
        "signature": "0" * 12, "reused": True, "environment": {"date": HOSTILE}, "utility": {HOSTILE: 0.5},
        "privacy": {HOSTILE: {HOSTILE: 1.0}}, "metrics": {HOSTILE: 0.5}, "seconds": {HOSTILE: 1.0}, "config": {},
    }  # fmt: skip
    (tmp_path / "runs" / record["signature"]).mkdir(parents=True)
    session = SimpleNamespace(output_dir=tmp_path, verbose=True, force=False)
    spec: Any = SimpleNamespace(session=session, covers=lambda name: name)
    terminal.finish(spec, record, (HOSTILE, HOSTILE))
    lines = [line for line in shown.getvalue().splitlines() if "owned" in line]
    assert len(lines) == 7
    assert all(is_safe(line) for line in lines)


def test_a_run_of_no_time_has_a_total() -> None:
    seconds = {"attack": 0.01, "total": 0.01, "per_victim": 0.3}
    assert terminal.seconds_in_words(seconds) == "seconds: total 0.0"
    assert terminal.seconds_in_words({**seconds, "train": 1.25, "total": 1.26}) == "seconds: total 1.3, train 1.2"


@pytest.mark.parametrize(("parts", "told"), [(0, "0 parts of a run"), (1, "1 part of a run"), (2, "2 parts of a run")])
def test_what_an_interrupted_run_leaves_is_counted(shown: io.StringIO, tmp_path: Path, parts: int, told: str) -> None:
    sign = "0" * 12
    (tmp_path / "partial" / sign).mkdir(parents=True)
    for number in range(parts):
        (tmp_path / "partial" / sign / f"{number}.safetensors").touch()
    spec = SimpleNamespace(signature=sign, session=SimpleNamespace(output_dir=tmp_path))
    planned: Any = SimpleNamespace(
        runs=[SimpleNamespace(spec=spec, complete=False)], search=False, config_dir=None, multirun=False, typed=()
    )
    planned.looked_up = lambda: planned
    terminal.stopped(planned)
    assert f"({told}): the same command goes on from there: privsweep" in shown.getvalue()
