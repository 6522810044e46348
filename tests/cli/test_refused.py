"""Broken invocations: one line that names key, value and remedy, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from broken_invocations import ARRAYS, FILES, IMAGES, LOGGING, PLACES, TYPED, VALUES
from broken_world import broken_world
from conftest import Privsweep

from privsweep.cli import main as cli
from privsweep.dataset.folder import Folder
from privsweep.dataset.prepared import Npz
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.run.logging_settings import check_logging
from privsweep.store.writable import check_writable


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


def everything(folder: Path) -> set[str]:
    """All files and folders below."""
    return {os.path.join(place, name) for place, folders, files in os.walk(folder) for name in (*folders, *files)}


@pytest.mark.parametrize("typed", [*TYPED, *FILES], ids=lambda typed: typed[:60])
def test_a_broken_invocation_is_refused_in_one_line_and_writes_nothing(
    typed: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    before = everything(world)
    words = [typed] if typed.startswith(("attack={", "+defense.dp_sgd={")) else shlex.split(typed)
    assert cli.main(words) == cli.REFUSED
    shown = capsys.readouterr()
    [line] = shown.err.splitlines()
    assert line.startswith("privsweep: ")
    assert {**TYPED, **FILES}[typed] in line
    assert shown.out == ""
    assert everything(world) == before


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


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place[:20])
@pytest.mark.parametrize("key", ["output_dir", "hydra.run.dir"])
def test_a_place_that_cannot_be_written_is_told_and_nothing_stays(
    key: str, place: str, world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    before = everything(world)
    with pytest.raises(UserError, match=f"{key}=.*cannot be written"):
        check_writable(Path(place if key == "output_dir" else "outputs"), [(key, Path(place))])
    assert everything(world) == before


@pytest.mark.parametrize("name", ARRAYS)
def test_a_broken_archive_is_told_in_one_line(name: str, world: Path, plain: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        Npz(path=world / f"{name}.npz", **plain).load(Rng(0))
    [line] = str(caught.value).splitlines()
    assert ARRAYS[name] in line


@pytest.mark.parametrize("name", IMAGES)
def test_a_folder_with_something_strange_is_told_in_one_line(name: str, world: Path, plain: dict[str, Any]) -> None:
    with pytest.raises(UserError) as caught:
        Folder(path=world / name, test_fraction=0.2, **plain).load(Rng(0))
    [line] = str(caught.value).splitlines()
    assert IMAGES[name] in line


def test_the_table_has_at_least_two_hundred_rows() -> None:
    assert sum(map(len, (TYPED, FILES, PLACES, ARRAYS, IMAGES, LOGGING, *VALUES))) >= 200


@pytest.mark.parametrize(
    ("given", "remedy"),
    [("attack.noise=optimised", "attack.noise=fresh"), ("attack.loss=victim", "attack.loss=cross_entropy")],
)
def test_an_adaptation_to_nothing_is_refused_before_any_work(
    privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str], given: str, remedy: str
) -> None:
    assert privsweep("attack=iga", given) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert given in said
    assert f"take {remedy}, or defense=[precode]" in said
    assert not list(tmp_path.glob("outputs/*"))
