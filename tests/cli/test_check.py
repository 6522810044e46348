"""``privsweep-data check``: what is fine and how to use it, what is at fault, and the exit codes."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from captured_world import of_a_tiny_lenet
from PIL import Image

from privsweep.cli.data import main
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

Members = dict[str, np.ndarray]


def commands(said: str) -> list[list[str]]:
    return [shlex.split(line.split("privsweep ")[1]) for line in said.splitlines() if "use it:" in line]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_an_npz_that_is_fine_comes_with_its_command(npz: Callable[..., Path], capsys: Any) -> None:
    npz(name="my 'own' $file")
    assert main(["check", "my 'own' $file.npz"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("my 'own' $file.npz: fine: 40 training and 12 test images of 1x6x6, 4 classes\n")
    [command] = commands(said)
    with searching(None):
        spec = build(compose([*command, "scale=smoke"]))
    assert spec.dataset.path == Path("my 'own' $file.npz")  # type: ignore[attr-defined]


def test_what_is_odd_is_said(npz: Callable[..., Path], members: Callable[..., Members], capsys: Any) -> None:
    few = members(train=8)
    npz({**few, "train_images": few["train_images"] // 200}, "few")
    many = members(train=300)
    npz({**many, "train_labels": np.array([*range(4), *[0] * 296])[:, None]}, "uneven")
    several = np.eye(4, dtype=np.uint8)[np.arange(40) % 4]
    npz({**members(), "train_labels": several, "test_labels": several[:12]}, "several")
    npz(members(size=(96, 96)), "large")
    assert main(["check", "few.npz", "uneven.npz", "several.npz", "large.npz"]) == 0
    said = capsys.readouterr().out
    for part in (
        "few images: class 0 has 2 for training", "dark: no pixel is above 1 of 255", "fl_setting.victims=2",
        "uneven: from 1 to 297 training images a class", "dataset@prior=npz prior.path=several.npz",
        "model=resnet18 attack=iga",
    ):  # fmt: skip
        assert part in said


def test_what_is_at_fault_is_one_line_and_the_others_are_checked(npz: Callable[..., Path], capsys: Any) -> None:
    npz(name="good")
    Path("junk.npz").write_text("junk")
    np.savez("other.npz", x=np.zeros(3))
    assert main(["check", "junk.npz", "good.npz", "other.npz"]) == 1
    out, err = capsys.readouterr()
    assert "good.npz: fine" in out
    first, second = err.splitlines()
    assert first.startswith("junk.npz: cannot be read as .npz")
    assert second.startswith("other.npz: train_images")


def test_a_folder_is_made_alike_by_the_command(tmp_path: Path, capsys: Any) -> None:
    for name, side, mode in (("cat", 40, "RGB"), ("dog", 50, "L")):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(5):
            Image.new(mode, (side, side)).save(tmp_path / "pets" / name / f"{n}.png")
    assert main(["check", "pets"]) == 0
    said = capsys.readouterr().out
    assert "8 training and 2 test images of 3x32x32, 2 classes" in said
    assert "classes: cat, dog" in said
    command = ["dataset=folder", "dataset.path=pets", "dataset.resize=32", "dataset.channels=rgb"]
    assert commands(said) == [[*command, "fl_setting.victims=2"]]
    (tmp_path / "one" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "one" / "cat" / "0.png")
    assert main(["check", "one"]) == 1
    assert "one: 1 subfolder with images" in capsys.readouterr().err


def test_an_update_is_checked_without_its_network(tmp_path: Path, capsys: Any) -> None:
    whole = of_a_tiny_lenet().read_bytes()
    (tmp_path / "u.safetensors").write_bytes(whole)
    assert main(["check", "u.safetensors"]) == 0
    said = capsys.readouterr().out
    assert "fine: gradients of 2 victims, 1 image behind each" in said
    assert "with labels and originals" in said
    assert "dataset.shape=[1,8,8]" in said
    (tmp_path / "u.safetensors").write_bytes(whole[:-9])
    assert main(["check", "u.safetensors"]) == 1
    assert "u.safetensors: cannot be read as safetensors" in capsys.readouterr().err


@pytest.mark.parametrize("paths", [[], ["nowhere"]])
def test_a_path_that_is_not_there_is_a_wrong_command(paths: list[str], capsys: Any) -> None:
    assert main(["check", *paths]) == 2
    assert "write privsweep-data check PATH" in capsys.readouterr().err


def test_the_paths_that_are_there_are_checked_beside_one_that_is_not(npz: Callable[..., Path], capsys: Any) -> None:
    npz(name="good")
    Path("junk.npz").write_text("junk")
    assert main(["check", "nowhere", "good.npz", "junk.npz"]) == 2
    out, err = capsys.readouterr()
    assert "good.npz: fine" in out
    first, second = err.splitlines()
    assert first == "nowhere: no such file or folder; write privsweep-data check PATH"
    assert second.startswith("junk.npz: cannot be read as .npz")
