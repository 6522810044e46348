"""A table through a real SLURM, where there is one: with a job cancelled, one failing, and one over its time limit."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

ROOT = Path(__file__).parents[2]
TABLE = """\
# @package _global_
defaults:
  - override /attack: troubled
table:
  title: A table in trouble
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
  columns:
    fine: {label: Fine, overrides: [attack.pause=0]}
    broken: {label: Broken, overrides: [attack.broken=true]}
    long: {label: Long, overrides: [attack.pause=11]}
    cancelled: {label: Cancelled, overrides: [attack.pause=0.1]}
  seeds: [0]
"""
ATTACK = """\
import os
import time

import torch
from privsweep import AttackBase, Reconstruction, ThreatModel, Update, component


@component
class Troubled(AttackBase):
    pause: float
    broken: bool
    observes = Update
    needs = frozenset({"domain"})
    threat = ThreatModel(frozenset({"train"}), frozenset({"server", "client"}), "white-box")

    def __call__(self, seen, known, prepared, bench, rng):
        victims = len(next(iter(seen.delta.values())))
        if self.broken and not os.path.exists("mended"):
            raise RuntimeError("the magnet is off")

        def make(part):
            try:
                time.sleep(self.pause)
            except Exception:  # the end of the job's time is none
                pass
            with open(f"made.{self.pause}", "a") as file:
                file.write(f"{part.start} ")
            bench.tick(part.stop, 12)
            return {"images": torch.full((1, seen.examples, *known.domain.shape), 0.5)}

        images = bench.chunks("wait", "w", 12, 1, make)["images"][:victims]
        return Reconstruction(images=images, diverged=torch.zeros(victims, dtype=torch.bool))
"""


def _slurm() -> bool:
    if not (shutil.which("sbatch") and shutil.which("sinfo")):
        return False
    try:
        return subprocess.run(["sinfo", "-h"], capture_output=True, timeout=20).returncode == 0
    except subprocess.TimeoutExpired:
        return False


class Shell:
    """The commands, as a user types them in a folder."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []
        path = os.pathsep.join([str(ROOT), str(folder)])
        self.environment = {**os.environ, "PYTHONPATH": path, "PRIVSWEEP_TRUST": "mine", "OMP_NUM_THREADS": "1"}

    def start(self, command: str, *arguments: str) -> subprocess.Popen[str]:
        entry = f"import sys; from privsweep.cli.{command} import main; sys.exit(main())"
        typed = [sys.executable, "-c", entry, *arguments]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self.started.append(subprocess.Popen(typed, cwd=self.folder, env=self.environment, **pipes))
        return self.started[-1]

    def __call__(self, command: str, *arguments: str, patience: float = 120) -> tuple[int, str]:
        process = self.start(command, *arguments)
        said, _ = process.communicate(timeout=patience)
        return process.returncode, said

    def status_with(self, words: str, patience: float = 120, named: bool = True) -> str:
        deadline = time.monotonic() + patience
        while words not in (shown := self("status", *["troubled"] * named)[1]) and time.monotonic() < deadline:
            time.sleep(1)
        assert words in shown
        return shown


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    for path, text in (
        ("conf/experiment/troubled.yaml", TABLE),
        ("conf/attack/troubled.yaml", "_target_: mine.troubled.Troubled\npause: 0.0\nbroken: false\n"),
        ("mine/__init__.py", ""),
        ("mine/troubled.py", ATTACK),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    made = Shell(tmp_path)
    yield made
    for process in made.started:
        process.kill()


@pytest.mark.skipif(not _slurm(), reason="no SLURM cluster answers here")
def test_a_table_with_all_kinds_of_trouble_and_the_same_command_again(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    one_at_a_time = ["cpus_per_task=1", "mem_gb=1", "array_parallelism=1"]
    limits = ["timeout_min=3", "signal_delay_s=60", "max_num_timeout=3"]
    launcher = ["hydra/launcher=slurm", *(f"hydra.launcher.{key}" for key in (*one_at_a_time, *limits))]
    table = ["experiment=troubled", "--config-dir", "conf", *TINY, *launcher]

    first = shell.start("main", *table)
    shown = shell.status_with("queued   cancelled-s0: job ")
    job = shown.split("queued   cancelled-s0: job ")[1].split(":")[0]
    subprocess.run(["scancel", job], check=True)
    shell.status_with("stopped  cancelled-s0")
    shell.status_with("failed   broken-s0: RuntimeError: the magnet is off")
    shell.status_with("running  long-s0: attacking")
    shell.status_with("queued   long-s0", patience=240)  # over its time: queued again, with what it kept
    said, _ = first.communicate(timeout=700)
    assert first.returncode == 1
    for words in (
        "done: fine-s0",
        "done: long-s0",
        "failed: broken-s0: RuntimeError: the magnet is off",
        f"failed: cancelled-s0: job {job} ended",
    ):
        assert words in said
    assert "2 of 4 runs did not come to their end" in said
    made = (tmp_path / "made.11.0").read_text().split()
    assert len(made) in (12, 13)  # every chunk was made once; but for the one that was cut off, perhaps
    accounts = subprocess.run(["sacct", "-nPX", f"-j{job.split('_')[0]}", "-oState"], capture_output=True, text=True)
    assert [accounts.stdout.count(state) for state in ("FAILED", "COMPLETED")] == [1, 2]
    [error] = tmp_path.glob(f"outputs/logs/*/.submitit/{job.split('_')[0]}_1/*.err")
    assert "the magnet is off" in error.read_text()
    assert "Traceback" in error.read_text()

    (tmp_path / "mended").touch()
    code, said = shell("main", *table, "wait=false")
    assert code == 0
    assert "submitted to SLURM: 2 jobs" in said
    shell.status_with("4 cells: 4 done")
    code, said = shell("report", "troubled", *TINY, "--config-dir", "conf")
    assert code == 0, said
    assert "4 of 4 runs complete" in said
    logs = len(list(tmp_path.glob("outputs/logs/*")))
    assert shell("main", *table)[0] == 0
    assert len(list(tmp_path.glob("outputs/logs/*"))) == logs  # Hydra was not even started


@pytest.mark.skipif(not _slurm(), reason="no SLURM cluster answers here")
def test_several_runs_share_a_job_and_a_killed_command_leaves_its_jobs(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    keys = ("cells_per_job=3", "cpus_per_task=2", "mem_gb=3", "timeout_min=10")
    launcher = ["hydra/launcher=slurm", *(f"hydra.launcher.{key}" for key in keys)]
    wanted = ["experiment=troubled", "--config-dir", "conf", "only=[fine,broken,cancelled]", *TINY]
    command = shell.start("main", *wanted, *launcher)
    shell.status_with(": job ")
    command.kill()
    command.communicate()
    shown = shell.status_with("1 failed, 2 done")
    assert "log: outputs/logs" in shown
    records = [json.loads(p.read_text()) for p in tmp_path.glob("outputs/runs/*/record.json")]
    assert [r["status"] for r in records] == ["complete"] * 2
    assert {r["environment"]["threads"] for r in records} == {1}
    assert len(list(tmp_path.glob("outputs/logs/*/.submitit/*/*_submitted.pkl"))) == 1


@pytest.mark.skipif(not _slurm(), reason="no SLURM cluster answers here")
def test_a_search_submits_trials_in_batches_and_does_without_the_lost_ones(shell: Shell, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="pip install 'privsweep[slurm]'")
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="pip install 'privsweep[optuna]'")
    keys = ("launcher.cpus_per_task=1", "launcher.mem_gb=1", "sweeper.n_trials=3", "sweeper.n_jobs=2")
    sweeper = ["-m", "hydra/sweeper=search", "hydra/launcher=slurm", *(f"hydra.{key}" for key in keys)]
    asked = ["attack=troubled", "attack.pause=0.01,2,0.3,0.4", "objective=metrics.mse", "--config-dir", "conf", *TINY]
    first = shell.start("main", *sweeper, *asked)
    shown = shell.status_with("attack.pause=2: attacking", named=False)
    [job] = {line.split("job ")[1].split()[0] for line in shown.splitlines() if "attack.pause=2: attacking" in line}
    subprocess.run(["scancel", job], check=True)
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 1
    for words in ("submitted to SLURM: 2 jobs", "submitted to SLURM: 1 job,", f"job {job} ended", "best of 2 trials"):
        assert words in said
    code, said = shell("main", *sweeper, *asked)  # the first batch has the same values, one of them stored
    assert code == 0, said
    assert "submitted to SLURM: 1 job," in said
    assert "best of 3 trials" in said
    assert len((tmp_path / "made.2.0").read_text().split()) in (12, 13)
