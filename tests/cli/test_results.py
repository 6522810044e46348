"""Files of a sweep's summary."""

import errno
from pathlib import Path

import pytest

from privsweep.cli import results
from privsweep.cli.cells import values_in
from privsweep.cli.results import file_summary


def test_sweeps_that_end_in_one_second_have_files_of_their_own(tmp_path: Path) -> None:
    for n in range(3):
        assert file_summary(tmp_path, {".md": f"text {n}", ".csv": f"table {n}"})
    for end, text in ((".md", "text"), (".csv", "table")):
        written = [path.read_text() for path in sorted((tmp_path / "summaries").glob(f"*{end}"))]
        assert sorted(written) == [f"{text} {n}" for n in range(3)]


def test_of_a_summary_that_finds_no_room_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole_file = results.whole_file

    def full(path: Path) -> object:
        if path.suffix == ".csv":
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole_file(path)

    monkeypatch.setattr(results, "whole_file", full)
    with pytest.raises(OSError, match="No space"):
        file_summary(tmp_path, {".md": "text", ".csv": "table"})
    assert not [*(tmp_path / "summaries").iterdir()]


def test_a_run_of_a_sweep_is_named_by_what_was_typed_for_it() -> None:
    overrides = ["scale=smoke", '+dataset.path="a, b.npz"', "defense=[precode]", "scale=quick"]
    assert values_in(overrides, ["scale", "dataset.path", "defense"]) == {
        "scale": "quick", "dataset.path": "a, b.npz", "defense": "[precode]",
    }  # fmt: skip
