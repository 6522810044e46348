"""What the tab key offers, as a shell asks for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from privsweep.cli import main as cli

Offered = Callable[[str], list[str]]


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Offered:
    def ask(line: str) -> list[str]:
        monkeypatch.setenv("COMP_LINE", line)
        assert cli.main(["-sc", "query=bash"]) == 0
        shown = capsys.readouterr()
        assert shown.err == ""
        return shown.out.split()

    return ask


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("privsweep attack=lira", ["attack=lira_offline", "attack=lira_online"]),
        ("privsweep experiment=zen/text_m", ["experiment=zen/text_mia"]),
        ("privsweep seed=1 defense=no", ["defense=noisy_gradients"]),
        ("privsweep defense=[no", ["defense=[noisy_gradients"]),
        ("privsweep defense=[precode,gradient_p", ["defense=[precode,gradient_pruning"]),
        ("privsweep defense=[precode", ["defense=[precode,", "defense=[precode]"]),
        ("privsweep dataset@prior=em", ["dataset@prior=emnist"]),
        ("privsweep dataset@", ["dataset@prior="]),
        ("privsweep -m attack=dlg,ig", ["attack=dlg,iga"]),
        ("privsweep scale=", ["scale=half", "scale=paper", "scale=quick", "scale=smoke"]),
        ("privsweep exp", ["experiment="]),
        ("privsweep attack=iga attack.tv", ["attack.tv_weight="]),
        ("privsweep hydra/launcher=slurm_gpu_", ["hydra/launcher=slurm_gpu_shared"]),
        ("privsweep attack=nosuch attack.l", []),
        ("privsweep --cfg nosuch att", []),
    ],
)
def test_choices_and_keys_are_offered(line: str, found: list[str], offered: Offered) -> None:
    assert offered(line) == found


def test_every_experiment_is_offered_and_no_defence_twice(offered: Offered) -> None:
    assert {"experiment=zen/table1", "experiment=informed/shadows"} <= set(offered("privsweep experiment="))
    assert "defense=[precode,precode" not in offered("privsweep defense=[precode,")


def test_ones_own_choices_are_offered(tmp_path: Path, offered: Offered) -> None:
    for name in ("attack/mine", "experiment/own/first"):
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(parents=True)
        file.write_text("defaults: [blind]\n")
    assert offered(f"privsweep --config-dir {tmp_path} attack=mi") == ["attack=mine"]
    assert offered(f"privsweep --config-dir={tmp_path} experiment=own") == ["experiment=own/first"]
