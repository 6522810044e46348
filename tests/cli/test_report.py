"""Tables, summaries and the page as files and in the terminal."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from privsweep.cli import report
from privsweep.interface.errors import UserError
from privsweep.plot.run_pictures import reconstructions
from privsweep.report.html import page
from privsweep.report.latex import escape, latex
from privsweep.report.markdown import markdown
from privsweep.report.summary import summary
from privsweep.report.write import terminal, tidy, write
from privsweep.store.atomic import write_json
from privsweep.table.fill import FilledTable, fill_table
from privsweep.table.spec import Table

HOSTILE = "a|b & 50% <script>alert(1)</script> $x_{1}$ \\input{x} # [bold] ~^"


def record(seed: int, ssim: float | None, **changes: Any) -> dict[str, Any]:
    return {
        "signature": f"{seed:012x}",
        "status": "complete",
        "scale": "quick",
        "config": {"seed": seed, "model": {"width": 12}, "attack": {"iterations": 20}},
        "choices": {"attack": "dlg", "dataset": "digits", "model": "lenet", "fl_setting": "fedavg", "defense": []},
        "metrics": {"ssim": ssim, "mse": 0.25},
        "utility": {"test_accuracy": 0.5},
        "seconds": {"per_victim": 1.5},
        "environment": {"device": "cpu", "date": f"2025-01-0{seed + 1}", "commit": "abc"},
        **changes,
    }


def table(**changes: Any) -> Table:
    config = {
        "title": HOSTILE,
        "place": "section 5",
        "rows": {"ssim": {"label": HOSTILE, "metric": "ssim", "format": ".2f", "better": "higher", "note": "a note"}},
        "columns": {
            "one": {"label": "One", "overrides": ["model=lenet"]},
            "two": {"label": "Two", "overrides": ["model=alexnet"]},
        },
        "seeds": [0, 1],
        "printed": {"ssim": {"one": "0.5"}},
        "findings": [
            {"id": "f1", "claim": "One leaks", "check": "v('ssim', 'one') > 0.4", "holds_in_print": True},
            {"id": "f2", "claim": "One hides", "check": "v('ssim', 'one') < 0.4", "holds_in_print": False},
            {"id": "f3", "claim": "Two leaks", "check": "v('ssim', 'two') > 0.4", "holds_in_print": None},
        ],
        **changes,
    }
    return Table.from_config(config, "zen/table1")


def lay(scale: str = "paper", overrides: tuple[str, ...] = ()) -> FilledTable:
    records = {"one-s0": record(0, 0.6), "one-s1": record(1, 0.8), "two-s0": record(0, 0.1), "two-s1": None}
    return fill_table(table(), records, scale, overrides)


def test_files_lie_where_the_scale_says(tmp_path: Path) -> None:
    for scale, stem in (
        ("paper", "paper/zen/table1"),
        ("quick", "paper/zen/table1.quick"),
        ("smoke", "smoke/zen/table1"),
    ):
        paths = write(lay(scale), tmp_path)
        assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
            f"{stem}.{s}" for s in ("md", "tex", "csv", "png")
        ]
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]


def test_a_variant_does_not_take_the_place_of_the_table(tmp_path: Path) -> None:
    same = write(lay(overrides=("output_dir=/x", "device=cpu", "experiment=zen/table1")), tmp_path)
    other = write(lay(overrides=("fl_setting.clients=2", "defense=[a/b,c]")), tmp_path)
    assert same[0] == tmp_path / "paper/zen/table1.md"
    assert re.fullmatch(r"table1\.defense-a-b-c-.fl_setting.clients-2-[0-9a-f]{6}\.md", other[0].name)


def test_markdown_is_readable_raw() -> None:
    text = markdown(lay("quick"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(line) for line in rows}) == 1
    assert "0.70 ± 0.14 (2)" in rows[2]
    assert "0.10 (only 1 of 2)" in rows[2]
    assert "+0.20" in rows[4]
    assert "scale=quick: amounts of work reduced" in text
    for expected in ("**held** f1", "**not held** f2", "**undecided** f3", "(in print: no number)", "commit: abc"):
        assert expected in text
    assert "privsweep experiment=zen/table1 scale=quick" in text
    assert "amounts of work" not in markdown(lay())


def test_latex_is_escaped_and_balanced() -> None:
    text = latex(lay())
    body = "\n".join(line for line in text.splitlines() if not line.startswith(("%", r"\resizebox")))
    plain = re.sub(r"\\[\\{}&%$#_]", "", body)
    assert plain.count("{") + 1 == plain.count("}")  # the one that \resizebox opens
    assert plain.count("$") % 2 == 0
    assert not re.search(r"[#_~^|<>]", plain)
    assert text.count(r"\begin") == text.count(r"\end")
    assert all(body.count(command) == 1 for command in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert r"\input{x}" not in text
    widths = {len(re.findall(r"(?<!\\)&", line)) for line in body.splitlines() if line.endswith(r" \\")}
    assert widths == {2}
    assert text.isascii()
    assert escape("é ± 语") == r"é $\pm$ ?"


def test_csv_holds_every_seed_and_the_mean() -> None:
    frame = pd.read_csv(io.StringIO(tidy(lay())), keep_default_na=False)
    one = frame[frame["column"] == "one"]
    assert list(one["kind"]) == ["seed", "seed", "mean"]
    assert list(one["value"]) == ["0.6", "0.8", "0.7"]
    two = frame[frame["column"] == "two"]
    assert list(two["state"]) == ["complete", "missing", "partial"]
    assert two["value"].iloc[-1] == ""
    never = fill_table(table(), {"one-s0": record(0, None), "one-s1": record(1, 0.2)}, "paper")
    assert tidy(never).splitlines()[1].split(",")[7] == "N/A"


def test_the_picture_is_legible(tmp_path: Path) -> None:
    path = write(lay("quick"), tmp_path)[-1]
    assert imread(path).shape[1] > 900


def test_the_terminal_shows_text_as_it_is() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(terminal(lay(), console.width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]" in text
    assert "not held  One hides" in text
    assert "3 of 4 runs complete" in text


def wide(columns: int) -> FilledTable:
    labels = {f"c{i}": {"label": f"Number {i:02d}", "overrides": [f"model.width={i}"]} for i in range(columns)}
    many = table(title="Wide", columns=labels, findings=[], printed={"ssim": {"c0": "0.5"}})
    return fill_table(many, {f"c{i}-s{s}": record(s, 0.6) for i in range(columns) for s in (0, 1)}, "paper")


def test_a_wide_table_stands_in_bands_that_leave_no_column_out(tmp_path: Path) -> None:
    filled = wide(26)
    heads = [line for line in markdown(filled).splitlines() if line.startswith("|") and "Number" in line]
    assert [head.count("Number") for head in heads] == [10, 10, 6]
    assert (
        markdown(filled).count("printed |") + markdown(filled).count("– printed") == 1
    )  # only where it says something
    assert latex(filled).count(r"\begin{tabular}") == latex(filled).count(r"\end{tabular}") == 3
    one, three = (imread(write(w, tmp_path / str(n))[-1]) for n, w in ((1, wide(10)), (3, filled)))
    assert three.shape[1] == one.shape[1]
    assert three.shape[0] > one.shape[0]


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_a_wide_table_fits_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal(wide(26), console.width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= width
    assert all(text.count(f"Number {i:02d}") == 1 for i in range(26))


# --- the command ----------------------------------------------------------------------------------------


def fake(monkeypatch: pytest.MonkeyPatch, output_dir: Path, records: dict[str, Any], scale: str = "quick") -> None:
    session = SimpleNamespace(scale=scale, output_dir=output_dir)
    planned = SimpleNamespace(
        table=table(), records=lambda: records, runs=[SimpleNamespace(spec=SimpleNamespace(session=session))]
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


def test_the_page_of_a_record_with_little_in_it() -> None:
    assert "seed ?" in page([{"signature": "a"}], [], [], Path)


def test_tables_are_found_below_the_folders(tmp_path: Path) -> None:
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "experiment" / "mine" / "t.yaml").write_text("table:\n  title: x\n")
    (tmp_path / "experiment" / "mine" / "single.yaml").write_text("seed: 3\n")
    assert report.tables_in(tmp_path) == ["mine/t"]
    assert "zen/table1" in report.tables_in(report.CONF)


# --- the summary of an ad hoc sweep ----------------------------------------------------------------------


def test_a_summary_has_a_line_for_each_combination() -> None:
    wide = {"config": {"model": {"width": 64}}}
    made = summary([record(0, 0.4), record(1, 0.6), record(0, 0.9, **wide)], ["model.width", "seed"])
    assert made.head == ["model.width", "mse", "ssim", "test_accuracy", "runs"]
    assert made.rows == [["12", "0.25 ± 0", "0.5 ± 0.141", "0.5 ± 0", "2"], ["64", "0.25", "0.9", "0.5", "1"]]
    assert made.frame["ssim"].tolist() == [0.5, 0.9]
    assert made.markdown().startswith("| model.width |")
    assert made.csv().startswith("model.width,mse,mse_std")
    Console(file=io.StringIO()).print(made.terminal())


def test_a_summary_averages_no_survivors() -> None:
    failed = record(1, None, status="failed", metrics={}, utility={})
    made = summary([record(0, 0.4), failed, record(2, None)], ["defense"])
    assert made.rows == [["[]", "", "", "", "2 of 3"]]
    assert summary([record(0, 0.4), record(1, None)], []).rows == [["0.25 ± 0", "N/A", "0.5 ± 0", "2"]]
