"""The examples in docs/ of components and a table: what is printed there runs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Privsweep
from tiny import TINY

ROOT = Path(__file__).parents[2]


def block(language: str, first_line: str) -> str:
    guide = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    blocks = re.findall(rf"```{language}\n(.*?)```", guide, re.DOTALL)
    return next(b for b in blocks if b.startswith(first_line))


def test_the_printed_attack_is_two_files(
    tmp_path: Path, privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    for language, path in [("python", "my_attacks/mean.py"), ("yaml", "my_conf/attack/mean.yaml")]:
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_text(block(language, f"# {path}"))
    asked = ["--config-dir", "my_conf", "attack=mean"]
    assert privsweep(*asked) == 2
    assert "PRIVSWEEP_TRUST" in capsys.readouterr().err
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "PRIVSWEEP_TRUST": "my_attacks"}
    command = [sys.executable, "-m", "privsweep.cli.main", *asked, *TINY]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [record] = tmp_path.glob("outputs/runs/*/record.json")
    assert json.loads(record.read_text())["choices"]["attack"] == "mean"


def test_the_printed_table_is_planned(privsweep: Privsweep, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "my_conf" / "experiment" / "noise.yaml"
    table.parent.mkdir(parents=True)
    text = block("yaml", "# @package _global_\n# my_conf/experiment/noise.yaml")
    table.write_text(text)
    chosen = ("--config-dir", str(tmp_path / "my_conf"), "experiment=noise", "scale=smoke", "plan=true")
    assert privsweep(*chosen, tiny=False) == 0
    assert "6 runs" in " ".join(capsys.readouterr().out.split())
    table.write_text(text.replace("# @package _global_\n", ""))
    assert privsweep(*chosen, tiny=False) == 2
    assert "let its YAML begin with # @package _global_" in " ".join(capsys.readouterr().err.split())
    table.write_text("table: {title: a}\n")  # without defaults either
    assert privsweep(*chosen, tiny=False) == 2
    assert "let the experiment's YAML begin with # @package _global_" in " ".join(capsys.readouterr().err.split())
