"""Tables by their names, and what is said of one that is not found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from privsweep.cli import main as cli
from privsweep.cli import matrix, report, status, store, tables

Main = Callable[[Sequence[str]], int]


def test_tables_are_found_below_the_folders(tmp_path: Path) -> None:
    (tmp_path / "experiment" / "mine").mkdir(parents=True)
    (tmp_path / "experiment" / "mine" / "t.yaml").write_text("table:\n  title: x\n")
    (tmp_path / "experiment" / "mine" / "single.yaml").write_text("seed: 3\n")
    assert tables.tables_in(tmp_path) == ["mine/t"]
    assert "zen/table1" in tables.tables_in(*tables.folders(None))


@pytest.mark.parametrize("command", [report.main, status.main])
def test_a_table_of_ones_own_is_looked_for_where_it_is_said_to_be(
    command: Main, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "conf").mkdir()
    assert command(["mine/x"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "mine/x: no such table; " in line
    assert line.endswith("; one of your own comes with --config-dir=FOLDER")
    assert command(["mine/x", "--config-dir=conf"]) == 2
    assert "--config-dir" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (cli.main, []),
        (report.main, []),
        (report.main, ["zen/table1"]),
        (status.main, []),
        (status.main, ["zen/table1"]),
        (store.main, ["show", "3f9a"]),
        (matrix.main, []),
    ],
)
@pytest.mark.parametrize("folder", ["nowhere", "a_file", ""])
def test_a_configuration_that_is_no_folder_is_told_before_anything_else(
    command: Main,
    words: list[str],
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    assert command([*words, f"--config-dir={folder}"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"--config-dir={folder}: no such folder; name one that holds your YAML files" in line
    assert [path.name for path in tmp_path.iterdir()] == ["a_file"]


@pytest.mark.parametrize("command", [status.main, store.main, matrix.main])
@pytest.mark.parametrize("flag", ["--frobnicate", "--config=conf"])
def test_a_flag_that_there_is_not_is_told_in_one_line(
    command: Main, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command([flag]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert f"unrecognized arguments: {flag}; privsweep-" in line
