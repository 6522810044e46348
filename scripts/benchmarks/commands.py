"""What a user waits for before anything is computed: start-up, and planning a table. Each turn is a process.

On the CPU, whatever the device. Starting up is compared with importing PyTorch, which any program of the kind does;
planning with Hydra alone, which composes the same cells but neither checks nor looks anything up.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmarks.contest import Case, Contest, DisagreementError, Setup, Turn
from privsweep.cli.sweep import plan
from privsweep.dataset.npz_format import write
from privsweep.interface.machine import processors

ROOT = Path(__file__).parents[2]
ENTRY = "import sys; from privsweep.cli.entry import privsweep; sys.exit(privsweep())"
TINY = ("attack.iterations=2", "dataset.train_size=60", "dataset.test_size=20", "fl_setting.victims=2", "scale=smoke")


def _started(arguments: list[str], code: int = 0, given: str = "", units: int = 1, **environment: str) -> Turn:
    """A Python process to its end. Raises DisagreementError where its exit code is not ``code``."""
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])

    def turn() -> float:
        process = subprocess.run(
            [sys.executable, *arguments], input=given, capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": paths, **environment},
        )  # fmt: skip
        if process.returncode != code:
            raise DisagreementError(
                f"exit code {process.returncode}: {(process.stderr.strip() or '?').splitlines()[-1]}"
            )
        return units

    return turn


def start_up(setup: Setup) -> Contest:
    def command(*arguments: str, code: int = 0, **environment: str) -> Turn:
        return _started(["-c", ENTRY, *arguments], code, **environment)

    ways = {"--help": command("--help"), "an unknown key": command("nokey=1", code=2)}
    if not setup.quick:
        stored = (f"output_dir={setup.folder}", "device=cpu", *TINY)
        command(*stored)()
        ways |= {
            "completion": command("-sc", "query=bash", COMP_LINE="privsweep attack="),
            "an unknown choice": command("model=nothing", code=2),
            "a value out of bounds": command("attack.iterations=-1", code=2),
            "a stored run": command(*stored),
        }
    return Contest(_started(["-c", "import torch"]), ways)


def planning(setup: Setup) -> Contest:
    """Four seeds of PRECODE's table 2: some 200 cells."""
    _cifar10(setup.folder / "data")
    asked = ["experiment=precode/table2", "table.seeds=[0]" if setup.quick else "table.seeds=[0,1,2,3]"]
    asked += [f"data_dir={setup.folder / 'data'}", f"output_dir={setup.folder}"]
    runs = plan(asked, None, multirun=False).runs
    some = runs[::7]  # Hydra takes as long for every cell
    hydra = _started(["-c", _HYDRA], given=json.dumps([run.overrides for run in some]), units=len(some))
    return Contest(hydra, {f"{len(runs)} cells": _started(["-c", ENTRY, *asked, "plan=true"], units=len(runs))})


_HYDRA = """
import json, sys, hydra
from privsweep.run.compose import CONF  # and what its files resolve
with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
    for overrides in json.load(sys.stdin):
        hydra.compose("config", overrides=overrides, return_hydra_config=True)
"""


def _cifar10(folder: Path) -> None:
    """A file that passes for it, so that cells are planned as where the data are."""
    members = {"images": np.zeros((500, 32, 32, 3), dtype=np.uint8), "labels": np.arange(500)[:, None] % 10}
    folder.mkdir()
    write(folder / "cifar10.npz", {f"{part}_{kind}": m for part in ("train", "test") for kind, m in members.items()})


def sweep(setup: Setup) -> Contest:
    """Eight seeds of IGA on a small LeNet, on digits: side by side, or in turn with all processors."""
    runs = 2 if setup.quick else 8
    amounts = ("model.width=3", *TINY) if setup.quick else ("attack.iterations=300", "fl_setting.victims=16")
    asked = ["-m", "attack=iga", f"seed={','.join(map(str, range(runs)))}", "device=cpu", "force=true", *amounts]

    def command(name: str, at_once: int) -> Turn:
        own = [*asked, f"output_dir={setup.folder / name}", f"at_once={at_once}"]
        return _started(["-c", ENTRY, *own], units=runs)

    at_once = min(runs, processors())
    return Contest(command("turns", 1), {f"{at_once} at once": command("at_once", at_once)})


CASES = {
    "sweep": Case("runs of a sweep at once, or one after the other with all processors", "a run", sweep),
    "start_up": Case("commands that compute nothing, or importing PyTorch", "a command", start_up),
    "planning": Case("a table with plan=true, or Hydra composing its cells", "a cell", planning),
}
