"""Broken invocations: one line that names key, value and remedy, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from broken_invocations import FILES, LOGGING, TYPED, VALUES
from broken_world import broken_world
from tiny import TINY

from privsweep.cli import main as cli
from privsweep.interface.errors import UserError
from privsweep.run.logging_settings import check_logging


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return broken_world(tmp_path_factory.mktemp("broken"))


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """A command that waits for something is interrupted."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise AssertionError("still not refused")

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("typed", [*TYPED, *FILES], ids=lambda typed: typed[:60])
def test_a_broken_invocation_is_refused_in_one_line_and_writes_nothing(
    typed: str, world: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    before = {path: path.lstat().st_mtime_ns for path in world.rglob("*")}
    words = [typed] if typed.startswith(("attack={", "+defense.dp_sgd={")) else shlex.split(typed)
    given = {word.partition("=")[0] for word in words}
    flags = {"--cfg", "-sc", "--info"} & given
    own = [a for a in TINY if not flags and a.partition("=")[0] not in given and "dataset=folder" not in words]
    assert cli.main([*words, *own]) == cli.REFUSED
    shown = capfd.readouterr()
    [line] = shown.err.splitlines()
    assert line.startswith("privsweep: ")
    assert {**TYPED, **FILES}[typed] in line
    assert shown.out == ""
    assert {path: path.lstat().st_mtime_ns for path in world.rglob("*")} == before


@pytest.mark.parametrize("values", VALUES, ids=len)
def test_wrong_values_are_told_all_at_once(
    values: dict[str, str], world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    assert cli.main(["defense=[noisy_gradients]", "attack=iga", *values]) == cli.REFUSED
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(values)
    for typed, words in values.items():
        key, _, value = typed.partition("=")
        path, shown = (f"{key}.0", value.strip("[]")) if value == "[0]" else (key, value)
        [line] = [line for line in lines if line.startswith(f"privsweep: {path}=")]
        assert words in line.partition(shown)[2]
    assert not (world / "outputs").exists()


@pytest.mark.parametrize(("section", "value"), [(name, value) for name, values in LOGGING.items() for value in values])
def test_logging_that_python_would_not_take_is_refused(section: str, value: Any) -> None:
    with pytest.raises(UserError) as caught:
        check_logging("hydra.job_logging", {section: value})
    assert str(caught.value).startswith(f"hydra.job_logging.{section}")


def test_the_table_has_at_least_a_hundred_rows() -> None:
    assert len(TYPED) + len(FILES) + sum(map(len, VALUES)) >= 100
