"""The trials of a search that are proposed together, which a launcher is given as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from privsweep.cli.batch import Batch, Run
from privsweep.cli.trials import Trial, Trials, read
from privsweep.run.compose import searching
from privsweep.store import sweeps
from privsweep.store.sweeps import Cell, Sweep

RUNS: list[Run] = [([f"x={value}"], number) for number, value in enumerate(("a", "b", "a", "stored"))]


class Proposed(Trials):
    """Trials that need no configuration: ``stored`` is, ``refused`` is refused."""

    def settled(self, typed: Sequence[str], number: int) -> Trial | Cell:
        value = typed[0].removeprefix("x=")
        sign = f"{value.encode().hex():0>12}"[-12:]
        if value == "refused":
            return Trial(number, {"x": value}, None, None, "x=refused: is not there", hopeless=self.numeric)
        if value == "stored":
            return Trial(number, {"x": value}, sign, 0.5, None)
        return Cell(name=value, signature=sign, number=number, before=(None, None))


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    path = sweeps.place(tmp_path, "search")
    empty = Sweep(
        table="", scale="smoke", overrides=[], config_dir=None, started="", launcher="basic", folder="logs/search",
        host="h", pid=1, user="u", cells=[],
    )  # fmt: skip
    sweeps.write(path, empty)
    return path


def test_a_trial_of_the_same_values_is_one_run_and_needs_no_job_of_its_own(tmp_path: Path, noted: Path) -> None:
    search = Proposed(["x"], "attack", numeric=False, typed=())
    batch = Batch.begun(search, RUNS, tmp_path, noted, fail_fast=False)
    assert [number for _, number in batch.todo] == [0, 1]
    search.tell(Trial(0, {}, "s", 0.1, None), tmp_path / "0")
    with searching(None):
        batch.lost(1, "its process died")
    assert batch.values() == [0.1, None, 0.1, 0.5]
    found = [one for number in range(4) if (one := read(tmp_path / str(number)))]
    assert [one.value for one in found] == [0.1, None, 0.1, 0.5]
    assert (found[1].words, found[1].error) == ("x=b", "its process died")
    again = Batch.begun(search, [(["x=b"], 4), (["x=stored"], 5)], tmp_path, noted, fail_fast=False)
    assert [number for _, number in again.todo] == [4]  # what came to nothing is tried again
    sweep = sweeps.read(noted)
    assert sweep is not None
    assert [(cell.name, cell.number) for cell in sweep.cells] == [("a", 0), ("b", 4), ("x=stored", None)]


@pytest.mark.parametrize(("numeric", "fail_fast", "left"), [(False, False, 2), (True, False, 0), (False, True, 0)])
def test_a_refused_trial_ends_a_search_that_has_no_hope_or_is_to_end(
    tmp_path: Path, noted: Path, numeric: bool, fail_fast: bool, left: int
) -> None:
    search = Proposed(["x"], "attack", numeric, ())
    batch = Batch.begun(search, [(["x=a"], 0), (["x=refused"], 1), (["x=b"], 2)], tmp_path, noted, fail_fast)
    assert len(batch.todo) == left
    assert sweeps.stopped(noted) == (not left)
    assert batch.values() == [None] * 3
