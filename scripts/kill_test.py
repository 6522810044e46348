"""Kills a sweep of 30 cells at random moments, 100 times, and compares what it leaves with an undisturbed one.

``python scripts/kill_test.py [--kills 100] [--seeds 5] [--folder DIR]``. A server that has everything imported and the
sweep planned forks a child for every attempt, which looks up what is stored, runs what is missing and lays out the
table, as the command does, until SIGKILL. When an attempt comes to its end, the output folder is compared with that of
a sweep that nobody killed, and a new one is begun. Exit code 0: they are the same, byte for byte but for seconds, dates
and environments, and nothing else is left but lock files, logs and notes of sweeps.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from privsweep.cli import jobs, sweep, terminal

import torch

COLUMNS = {
    "dense": ["attack=dlg", "attack.iterations=2", "attack.memory=0.000001", "model=smlp"],
    "convolutional": ["attack=dlg", "attack.iterations=2", "attack.memory=0.000001"],
    "noisy": ["attack=dlg", "attack.iterations=2", "defense=[noisy_gradients]"],
    "analytic": ["attack=analytic", "model=smlp"],
    "decoder": ["attack=generative_decoder", "fl_setting=split", "model=lenet", "dataset.prior_size=20"],
    "released": [
        "attack=informed_reconstruction", "fl_setting=release", "model=informed_mlp", "dataset.train_size=40",
        "dataset.prior_size=20", "attack.shadows=8", "attack.width=8",
    ],
}  # fmt: skip
SMALL = ["dataset.test_size=20", "fl_setting.victims=2", "scale=smoke", "threads=1"]
OUTSIDE = ("locks", "logs", "sweeps", "running")  # of the comparison: they say how a sweep went
TIMED = ("seconds", "environment", "checksum")  # of a record


def experiment(folder: Path, columns: dict[str, list[str]], seeds: int) -> Path:
    """A configuration folder with the sweep ``small``."""
    small = {"dataset.train_size": "dataset.train_size=60"}
    laid = {
        name: {"label": name, "overrides": [*own, *(v for k, v in small.items() if not any(k in o for o in own))]}
        for name, own in columns.items()
    }
    table = {
        "title": "Small", "place": "nowhere", "rows": {"mse": {"label": "MSE", "metric": "mse"}}, "columns": laid,
        "seeds": list(range(seeds)),
    }  # fmt: skip
    path = folder / "conf" / "experiment" / "small.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("# @package _global_\n" + json.dumps({"table": table}))  # JSON is YAML
    return folder / "conf"


class Server:
    """Forks attempts at the sweep."""

    def __init__(self, conf: Path, output_dir: Path):
        self.conf, self.output_dir = conf, output_dir
        given = ["experiment=small", *SMALL, f"output_dir={output_dir}"]
        self.planned = sweep.plan(given, str(conf), multirun=False)

    def attempt(self, seconds: float | None) -> bool:
        """Whether the sweep came to its end before it was killed, ``seconds`` after its start."""
        child = os.fork()
        if child == 0:
            try:
                self._run()
            finally:
                os._exit(1)
        end = time.monotonic() + (600 if seconds is None else seconds)
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                if status:
                    raise RuntimeError(f"the sweep failed by itself: {self.output_dir}")
                return True
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _run(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        planned = self.planned.looked_up()
        if planned.missing:
            jobs.launch(planned, str(self.conf))
        code = terminal.table(planned.looked_up())
        os._exit(code)


def contents(output_dir: Path) -> dict[str, Any]:
    """Every file by its path: bytes, or a record without what is timed."""
    found: dict[str, Any] = {}
    for path in sorted(output_dir.rglob("*")):
        inside = path.relative_to(output_dir)
        if inside.parts[0] in OUTSIDE or (path.is_dir() and any(path.iterdir())):
            continue
        if path.name == "record.json":
            found[str(inside)] = {k: v for k, v in json.loads(path.read_text()).items() if k not in TIMED}
        elif path.suffix in (".md", ".tex"):
            found[str(inside)] = [line for line in path.read_text().splitlines() if "date:" not in line]
        elif inside.parts[0] != "smoke" or path.suffix != ".png":  # a table's picture has its dates in it
            found[str(inside)] = None if path.is_dir() else path.read_bytes()
    return found


def differences(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """Paths that only one has, or that are not the same."""
    return sorted(path for path in {*a, *b} if path not in a or path not in b or a[path] != b[path])


def kill(folder: Path, kills: int, columns: dict[str, list[str]], seeds: int, draw: random.Random) -> dict[str, int]:
    """Counts, of which ``different`` should be 0."""
    conf, count = experiment(folder, columns, seeds), len(columns) * seeds
    server = Server(conf, folder / "outputs")
    began = time.monotonic()
    assert server.attempt(None)
    whole, length = contents(server.output_dir), time.monotonic() - began
    server.output_dir.rename(folder / "whole")
    print(f"undisturbed: {count} cells in {length:.0f} s, {len(whole)} files", flush=True)
    counts = {"kills": 0, "sweeps": 0, "in a part": 0, "in a draft": 0, "different": 0}
    while True:
        left = counts["kills"] < kills
        if server.attempt(draw.uniform(0, length / 5) if left else None):
            counts["sweeps"] += 1
            wrong = differences(whole, contents(server.output_dir))
            counts["different"] += len(wrong)
            for path in wrong:
                print(f"differs: {path}", flush=True)
            if not left:
                return counts
            shutil.rmtree(server.output_dir)
        else:
            counts["kills"] += 1
            counts["in a part"] += any(server.output_dir.glob("partial/*/[!.]*"))
            counts["in a draft"] += any(
                p.name.startswith(".") and p.relative_to(server.output_dir).parts[0] not in OUTSIDE
                for p in server.output_dir.rglob("*")
            )
            print(counts, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill_test."))
    folder.mkdir(parents=True, exist_ok=True)
    counts = kill(folder, args.kills, COLUMNS, args.seeds, random.Random(0))
    print(f"{counts}; the last sweep is in {folder}")
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
