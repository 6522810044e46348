"""The command ``privsweep-report``: tables laid out again, and the page of everything."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from report_world import record, table

from privsweep.cli import report
from privsweep.interface.errors import UserError
from privsweep.plot.run_pictures import reconstructions
from privsweep.store.atomic import write_json


def fake(monkeypatch: pytest.MonkeyPatch, output_dir: Path, records: dict[str, Any], scale: str = "quick") -> None:
    session = SimpleNamespace(scale=scale, output_dir=output_dir)
    planned = SimpleNamespace(
        table=table(),
        records=lambda: records,
        runs=[SimpleNamespace(spec=SimpleNamespace(session=session))],
        absent=(),
    )
    monkeypatch.setattr(report.sweep, "stored", lambda name, overrides, config_dir: planned)


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["privsweep-report", *arguments])
    try:
        report.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_a_table_is_laid_out_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    full = {f"{c}-s{s}": record(s, 0.5 + s / 10) for c in ("one", "two") for s in (0, 1)}
    fake(monkeypatch, tmp_path, full)
    assert call(monkeypatch, "zen/table1", "scale=quick") == 0
    assert "0.55 ± 0.07 (2)" in capsys.readouterr().out
    assert (tmp_path / "paper/zen/table1.quick.md").is_file()
    fake(monkeypatch, tmp_path, {**full, "two-s1": None})
    assert call(monkeypatch, "experiment=zen/table1", "scale=quick") == 1


def test_an_empty_table_is_not_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake(monkeypatch, tmp_path, {})
    assert call(monkeypatch, "zen/table1", "scale=quick") == 1
    assert "run: privsweep experiment=zen/table1 scale=quick" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_stands_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for seed in (0, 1):
        folder = tmp_path / "runs" / f"{seed:012x}"
        write_json(folder / "record.json", record(seed, 0.5))
        image = np.zeros((1, 1, 1, 8, 8))
        reconstructions(folder / "reconstructions.png", image, image)
    monkeypatch.setattr(report, "tables_in", lambda *folders: ["zen/table1", "zen/broken"])
    fake(monkeypatch, tmp_path, {"one-s0": record(0, 0.5)})
    stored = report.sweep.stored

    def refuse(name: str, overrides: Any, config_dir: Any) -> Any:
        if name == "zen/broken":
            raise UserError("dataset=x: no such choice")
        return stored(name, overrides, config_dir)

    monkeypatch.setattr(report.sweep, "stored", refuse)
    assert call(monkeypatch, f"output_dir={tmp_path}") == 0
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert html.count("data:image/png;base64,") == 2
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    assert html.count("<article") == 2
    assert "not laid out: zen/broken: dataset=x: no such choice" in html
    assert html.index('id="000000000001"') < html.index('id="000000000000"')  # newest first


def test_no_runs_is_an_error_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, f"output_dir={tmp_path / 'none'}") == 2
    error = capsys.readouterr().err
    assert error.startswith("output_dir=")
    assert error.count("\n") == 1


def test_tables_are_found_below_the_folders(tmp_path: Path) -> None:
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "experiment" / "mine" / "t.yaml").write_text("table:\n  title: x\n")
    (tmp_path / "experiment" / "mine" / "single.yaml").write_text("seed: 3\n")
    assert report.tables_in(tmp_path) == ["mine/t"]
    assert "zen/table1" in report.tables_in(report.CONF)
