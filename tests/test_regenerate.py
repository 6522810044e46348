"""``scripts/regenerate_all.py``: what is stored is skipped, what lacks its data is said, a failure stops nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from privsweep.cli import main as cli

HEAD = "# @package _global_\ndefaults: [{override /attack: blind}]\n"
TABLE = """\
table:
  title: A small table
  place: nowhere
  rows: {mse: {label: MSE, metric: mse}}
  columns: {COLUMNS}
  seeds: [0]
"""
GREY = "grey: {label: Grey, overrides: [attack.guess=grey]}"
NOISE = "noise: {label: Noise, overrides: [attack.guess=noise]}"
AWAY = "away: {label: Away, overrides: [dataset=medical_mnist]}"
TABLES = {"part": f"{GREY}, {AWAY}", "whole": f"{GREY}, {NOISE}", "none": AWAY}


PUBLISHED = """\
# A small table

## Conditions

- command: privsweep experiment=mine/whole scale=quick dataset.train_size=60 model.width=3 fl_setting.victims=2
- scale: quick
- runs: 1 of 2 complete
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "scripts"))
    yield import_module("regenerate_all")
    for name in ("regenerate_all", "status_table"):
        sys.modules.pop(name)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf" / "experiment" / "mine").mkdir(parents=True)
    for name, columns in TABLES.items():
        text = HEAD + TABLE.replace("{COLUMNS}", f"{{{columns}}}")
        (tmp_path / "conf" / "experiment" / "mine" / f"{name}.yaml").write_text(text)
    return tmp_path


def test_it_goes_on_from_what_is_stored_and_says_what_it_leaves_out(
    script: Any, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launched: list[str] = []
    broken = {"mine/whole"}

    def launch(arguments: Sequence[str], log: Path) -> int:
        [name] = [a.removeprefix("experiment=") for a in arguments if a.startswith("experiment=")]
        launched.append(name)
        if name in broken:
            raise RuntimeError("out of memory")
        return cli.main(list(arguments))

    asked = ["mine", *TINY, f"data_dir={here}/data", "--config-dir", "conf"]
    assert script.main(asked, launch) == 1
    shown = capsys.readouterr().out
    assert "mine/part: 1 of 2 runs, 1 run in" in shown
    assert "without away, whose data are not here" in shown
    assert "not here: dataset=medical_mnist" in shown
    assert "mine/none: left out: " in shown
    assert "  mine/whole: RuntimeError: out of memory" in shown
    assert launched == ["mine/part", "mine/whole"]
    assert script.main([*asked, "scale=huge"], launch) == 1
    assert "mine/part: left out: scale=huge" in capsys.readouterr().out
    broken.clear()
    assert script.main(asked, launch) == 0
    shown = capsys.readouterr().out
    assert "mine/part: 1 of 2 runs, all of them stored" in shown
    assert "mine/whole: 2 of 2 runs, 1 run in" in shown
    assert launched[2:] == ["mine/whole"]
    assert script.main(["mine/nothing"], launch) == 2
    assert "README" not in shown


def test_what_is_published_comes_out_the_same_and_the_readme_tells_it(
    script: Any, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a repository of its own."""
    status = sys.modules["status_table"]
    readme, folder = here / "README.md", here / "outputs" / "paper" / "mine"
    monkeypatch.setattr(script, "ROOT", here)
    readme.write_text(f"before\n{status.BEGIN}\nold\n{status.END}\nafter\n")
    folder.mkdir(parents=True)
    (folder / "whole.quick.md").write_text(PUBLISHED)
    given = ["mine/whole", "scale=quick", "fl_setting.victims=1", "--config-dir", "conf"]
    assert script.published_with("mine/whole", given) == ["dataset.train_size=60", "model.width=3"]
    given.remove("fl_setting.victims=1")
    assert script.main(given, lambda arguments, log: cli.main(list(arguments))) == 0
    assert {path.name for path in folder.iterdir()} == {
        f"whole.quick.{kind}" for kind in ("md", "csv", "tex", "png", "runs.tar.xz")
    }
    command = next(line for line in PUBLISHED.splitlines() if line.startswith("- command"))
    assert command in (folder / "whole.quick.md").read_text().splitlines()
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| [mine](outputs/paper/mine/README.md) | 1 of 3 | 0 | 0 | 0 | 0 |" in text
    assert "old" not in text
    index = (folder.parent / "README.md").read_text()
    assert "[A small table](mine/whole.quick.md) | quick\\* | 0 | 2 | [2 of 2](mine/whole.quick.runs.tar.xz) |" in index
    assert "Not published: A small table; A small table." in index
    assert "what is published is written anew" in capsys.readouterr().out
