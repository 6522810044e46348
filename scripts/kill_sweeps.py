"""Kills a sweep of 30 cells at random moments, 100 times, and compares what it leaves with an undisturbed one.

``python scripts/kill_sweeps.py [--kills 100] [--seeds 5] [--folder DIR]``. A server that has everything imported
and the sweep planned forks a child for every attempt, which looks up what is stored, runs what is missing and lays out
the table, as the command does, until SIGKILL. When an attempt comes to its end, its output folder is compared with that
of a sweep that nobody killed, and a new one is begun. Exit code 0: they are the same, byte for byte but for seconds,
dates and environments, and nothing else is left but lock files, logs and notes of sweeps.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from privsweep.cli import jobs, results, sweep

from sweep_world import COLUMNS, OUTSIDE, SMALL, contents, differences, experiment

import torch

Moment = Callable[[int], bool]  # given a process, whether it is to be killed now
Moments = Callable[[Path, float], Iterator[Moment]]


class Server:
    """Forks attempts at the sweep."""

    def __init__(self, conf: Path, output_dir: Path):
        self.conf, self.output_dir = conf, output_dir
        given = ["experiment=small", *SMALL, f"output_dir={output_dir}"]
        self.planned = sweep.plan(given, str(conf), multirun=False)

    def attempt(self, moment: Moment) -> bool:
        """Whether the sweep came to its end before ``moment``, at which it is killed."""
        child = os.fork()
        if child == 0:
            try:
                self._run()
            finally:
                os._exit(1)
        while not moment(child):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                if status:
                    raise RuntimeError(f"the sweep failed by itself: {self.output_dir}")
                return True
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return False

    def _run(self) -> None:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        planned = self.planned.looked_up()
        if planned.missing:
            jobs.launch(planned, str(self.conf))
        code = results.table(planned.looked_up())
        os._exit(code)


def cpu_seconds(process: int) -> float:
    """What it has had of a processor: the time on the clock says little on a busy machine."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def after(seconds: float) -> Moment:
    return lambda process: cpu_seconds(process) >= seconds


def never(process: int) -> bool:
    return False


def kill(folder: Path, columns: dict[str, list[str]], seeds: int, moments: Moments) -> dict[str, int]:
    """Counts, of which ``different`` should be 0. ``moments``, given the folder and the seconds of an undisturbed
    sweep, are those to kill at, one after another."""
    conf, count = experiment(folder, columns, seeds), len(columns) * seeds
    server = Server(conf, folder / "outputs")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert server.attempt(never)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    whole, length = contents(server.output_dir), spent.ru_utime + spent.ru_stime - before.ru_utime - before.ru_stime
    server.output_dir.rename(folder / "whole")
    print(f"undisturbed: {count} cells in {length:.0f} s of a processor, {len(whole)} files", flush=True)
    counts = {"kills": 0, "sweeps": 0, "in a part": 0, "in a draft": 0, "different": 0}
    coming = moments(server.output_dir, length)
    moment = next(coming, never)
    while True:
        if server.attempt(moment):
            counts["sweeps"] += 1
            wrong = differences(whole, contents(server.output_dir))
            counts["different"] += len(wrong)
            for path in wrong:
                print(f"differs: {path}", flush=True)
            if moment is never:
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
            moment = next(coming, never)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.folder or Path(tempfile.mkdtemp(prefix="kill_sweeps."))
    folder.mkdir(parents=True, exist_ok=True)
    draw = random.Random(0)

    def moments(output_dir: Path, length: float) -> Iterator[Moment]:
        return (after(draw.uniform(0, length / 6)) for _ in range(args.kills))

    counts = kill(folder, COLUMNS, args.seeds, moments)
    print(f"{counts}; the last sweep is in {folder}")
    return 1 if counts["different"] else 0


if __name__ == "__main__":
    sys.exit(main())
