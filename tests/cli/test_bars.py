"""Bars of runs at once."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from rich.console import Console

from privsweep.cli import bars, terminal
from privsweep.run.heartbeat import Heartbeat


def test_in_a_narrow_terminal_a_long_name_leaves_room_for_how_far_its_run_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat = Heartbeat(tmp_path, "0" * 12, "title")._beat
    told = beat.model_copy(update={"phase": "attacking", "done": 3, "total": 8})
    monkeypatch.setattr(bars, "beats", lambda output_dir: {told.signature: (told, True)})
    monkeypatch.setattr(bars, "LOOK_SECONDS", 0)
    name = "attack=iga model=smlp defense=[gradient_quantization] seed=1"
    monkeypatch.setattr(bars.Bars, "_names", lambda self: {0: name})
    out = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "out", out)
    with bars.Bars(tmp_path / "sweeps" / "now.json", 16) as shown:
        shown.look({0: os.getpid()})
    drawn = out.file.getvalue()  # type: ignore[attr-defined]
    [line] = {line.split(" 0:")[0] for line in drawn.splitlines() if "seed=1" in line}
    assert line.startswith("…")
    assert "quantization] seed=1: attacking" in line
    assert line.rstrip().endswith(" 3/8")
    assert "0/16" in drawn
