"""``scripts/benchmark.py``: every case is there, its two sides agree, and what it writes can be read."""

from __future__ import annotations

import json
from pathlib import Path

import benchmark
import pytest
from benchmark import CASES, main
from benchmarks.contest import Contest, measure
from benchmarks.table import BEGIN, END, duration
from torch import device


@pytest.mark.parametrize(
    "case", ["iga_lenet", "dlg", "central_lenet", "fedavg_smlp", "seeds_lenet", "shadows", "releases_clipped", "april"]
)
def test_a_case_is_measured_and_written(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "found.json"
    assert main(["--cases", case, "--quick", "--device", "cpu", "--json", str(path)]) == 0
    told = json.loads(path.read_text())
    assert told["environment"]["device"] == "cpu"
    assert {found["case"] for found in told["results"]} == {case}
    assert all(found["baseline"] > 0 and found["ours"] > 0 and found["ratio"] > 0 for found in told["results"])
    assert sum(line.startswith(case) for line in capsys.readouterr().out.splitlines()) == len(told["results"])


def test_what_fails_or_cannot_be_measured_is_told_and_stops_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty, path = tmp_path / "empty", tmp_path / "found.json"
    empty.mkdir()
    asked = ["--cases", "report", "iga_smlp", "--quick", "--device", "cpu", "--store", str(empty), "--json", str(path)]
    assert main(asked) == 0
    told = json.loads(path.read_text())
    assert told["without"] == {"report": f"{empty}: has no runs"}
    assert [found["case"] for found in told["results"]] == ["iga_smlp", "iga_smlp"]
    assert f"not here: {empty}: has no runs" in capsys.readouterr().out


def test_cases_are_listed_and_unknown_ones_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(CASES)
    assert main(["--cases", "iga_nothing"]) == 2
    assert capsys.readouterr().err == "--cases iga_nothing: no such case; --list names them\n"


def test_what_was_measured_takes_its_place_on_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "speed.md"
    page.write_text(f"before\n{BEGIN}\nold\n\n{END}\nafter\n")
    monkeypatch.setattr(benchmark, "PAGE", page)
    assert main(["--cases", "iga_smlp", "--quick", "--device", "cpu", "--write"]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    [line] = [line for line in text.splitlines() if line.startswith("| `iga_smlp` |")]
    assert line.count(" | 1 victim | ") == 1


def test_the_sides_take_turns_and_times_are_of_a_unit() -> None:
    calls: list[str] = []

    def side(name: str, units: float) -> float:
        calls.append(name)
        return units

    contest = Contest(lambda: side("theirs", 1), {"": lambda: side("ours", 1e9)}, lambda: side("floor", 1e12))
    (found,) = measure(contest, 0, device("cpu"))
    assert (
        calls == ["theirs", "ours", "floor", *["theirs", "ours", "floor", "floor", "ours", "theirs"] * 2][: len(calls)]
    )
    assert found.turns == len(found.times["ours"]) == 3
    assert found.floor < found.ours < found.baseline
    assert found.least <= found.ratio <= found.most


@pytest.mark.parametrize(("seconds", "text"), [(2.5, "2.5 s"), (0.0012345, "1.23 ms"), (4.2e-6, "4.2 us")])
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    assert duration(seconds) == text
