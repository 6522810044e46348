"""The check of a GPU, as far as a machine without one can run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from gpu_check import main
from gpu_steps import STEPS, Place, Row, too_far


def test_it_goes_on_where_it_was_and_writes_one_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--device", "cpu", "--small", "--output", str(tmp_path)]
    assert main([*given, "--steps", "environment"]) == 0
    assert main([*given, "--steps", "environment,memory"]) == 0
    assert "environment: done before" in capsys.readouterr().out
    report = (tmp_path / "report.md").read_text()
    assert "Nothing is wrong." in report
    assert [line for line in report.splitlines() if line.startswith("## ")] == ["## Environment", "## Memory"]


def test_a_step_that_was_cut_off_keeps_its_rows_and_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cut_off(place: Place) -> Iterator[Row]:
        """A step."""
        yield {"work": "the first"}
        raise KeyboardInterrupt

    given = ["--device", "cpu", "--small", "--output", str(tmp_path), "--steps", "memory"]
    with monkeypatch.context() as patched:
        patched.setitem(STEPS, "memory", cut_off)
        with pytest.raises(KeyboardInterrupt):
            main(given)
    report = (tmp_path / "report.md").read_text()
    assert "| the first |" in report
    assert "not to the end" in report
    assert main(given) == 0
    assert "done before" not in capsys.readouterr().out
    assert "not to the end" not in (tmp_path / "report.md").read_text()


def test_what_is_wrong_is_told(tmp_path: Path) -> None:
    (tmp_path / "agreement.json").write_text(
        json.dumps({"rows": [], "wrong": ["iga differs"], "seconds": 1, "whole": True})
    )
    assert main(["--device", "cpu", "--small", "--output", str(tmp_path), "--steps", "agreement"]) == 1


@pytest.mark.parametrize("wrong", [["--steps", "everything"], ["--device", "cuda:99"]])
def test_bad_input_is_one_line(wrong: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--output", str(tmp_path), "--device", "cpu", *wrong])
    assert ended.value.code == 2
    assert wrong[1] in capsys.readouterr().err


def test_a_run_that_repeats_itself_must_do_so_when_recorded() -> None:
    assert too_far(across=1e-6, again=0.0, recorded=0.0, other_draws=False) == []
    assert too_far(across=1e-6, again=0.0, recorded=1e-3, other_draws=False) == ["recorded"]
    assert too_far(across=0.03, again=0.0, recorded=0.0, other_draws=False) == ["device"]
    assert too_far(across=0.5, again=0.0, recorded=0.0, other_draws=True) == []


def test_kernels_that_add_in_any_order_are_held_to_the_tolerance() -> None:
    assert too_far(across=1e-6, again=1e-7, recorded=3e-3, other_draws=False) == []
    assert too_far(across=0.03, again=0.05, recorded=0.05, other_draws=False) == []
    assert too_far(across=1e-6, again=1e-7, recorded=0.05, other_draws=True) == ["recorded"]
