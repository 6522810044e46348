"""Hydra's SLURM launcher, for sweeps that are left alone and come back to.

It splits a sweep into arrays that the cluster takes, puts several runs on one GPU where that is asked for, leaves a run
to the job that has it already, notes which job does what, tells failures as they come, notices jobs that were lost, and
leaves at once with ``wait=false``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import submitit
import torch
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher
from submitit.core.utils import FailedJobError

from privsweep.cli import cluster, terminal, trials
from privsweep.cli.at_once import needed, returned
from privsweep.cli.awaited import Awaited, of_others, said, tell, wait
from privsweep.cli.batch import Batch, Run
from privsweep.cli.failure import Failure
from privsweep.cli.interrupts import put_off
from privsweep.cli.side_by_side import side_by_side
from privsweep.cli.states import CellState, Observer
from privsweep.cli.time_limit import time_limit
from privsweep.cli.trials import Trials
from privsweep.interface.errors import UserError
from privsweep.store import sweeps

_REFUSED = {  # sbatch's words, and the key that they are about
    "account": "account",  # before the partition, which its line names too
    "partition": "partition",
    "processors": "cpus_per_task",
    "cpu count": "cpus_per_task",
    "memory": "mem_gb",
    "time limit": "timeout_min",
    "qos": "qos",
    "feature": "constraint",
    "gres": "gpus_per_node",
}
T = TypeVar("T")
Job = submitit.Job[Any]
Part = list[Run]  # of one job


class JobArrays(SlurmLauncher):  # type: ignore[misc]
    """Takes the keys of ``conf/hydra/launcher/slurm.yaml``."""

    def __init__(self, array_size: int | None = None, cells_per_job: int = 1, **params: Any):
        super().__init__(**params)
        self.array_size, self.cells_per_job, self.said = array_size, cells_per_job, False

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        folder, output_dir = Path(str(self.config.hydra.sweep.dir)), Path(str(self.config.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        noted = sweeps.place(output_dir, str(folder))
        numbered = [(list(o), n) for n, o in enumerate(job_overrides, initial_job_idx)]
        batch, search = None, self.task_function
        if isinstance(search, Trials):
            batch = Batch.begun(search, numbered, folder, noted, bool(self.config.fail_fast))
        todo = batch.todo if batch else needed(self.config, noted, numbered)
        others = {} if batch or self.config.force else _begun(todo, noted, output_dir)
        parts = _split([run for run in todo if run[1] not in others], self.cells_per_job)
        if todo:
            awaited = self._submit(parts, noted)
            said(output_dir, noted, [*awaited], others, hints_too=not self.said)
            self.said = True  # of a search's further batches it is known
            if self.config.wait:
                how = partial(_came_to, batch) if batch else tell
                wait(awaited, of_others(others, output_dir), noted, output_dir, bool(self.config.fail_fast), how)
        return [returned(value) for value in (batch.values() if batch else [None] * len(numbered))]

    def _submit(self, parts: Sequence[Part], noted: Path) -> Awaited:
        jobs: list[Job] = []
        try:
            executor = self._executor()
            for array in _split(parts, self.array_size or cluster.largest_array() or len(parts)):
                # A job that nobody knew of would do its runs beside those of the same command again.
                with put_off(), redirect_stderr(StringIO()):  # sbatch's words of a refusal are told below
                    made = executor.map_array(self, array, [Singleton.get_state()] * len(array))
                    jobs += made
                    numbers = {n: j.job_id for j, part in zip(made, array, strict=True) for _, n in part}
                    sweeps.note_jobs(noted, numbers)
        except KeyboardInterrupt:
            if jobs:
                stop = f"scancel {' '.join(cluster.arrays(job.job_id for job in jobs))}"
                terminal.say(f"the {len(jobs)} jobs that were submitted go on without this command; stop them: {stop}")
            raise
        except (FailedJobError, ValueError) as error:
            lines = str(error).splitlines() or ["sbatch failed without a word"]
            said = [line for line in lines if "error" in line.lower()] or lines
            if jobs or self.said:  # they run, and what they do is noted
                raise RuntimeError(f"after {len(jobs)} jobs SLURM took no more: {said[0].strip()}") from error
            raise UserError(f"hydra.launcher: SLURM took no job: {said[0].strip()}{self._remedy(said[0])}") from error
        return {
            job.job_id: (job.paths.result_pickle, {n for _, n in part}) for job, part in zip(jobs, parts, strict=True)
        }

    def _remedy(self, refusal: str) -> str:
        """The key that SLURM's words are about, with its value; nothing where none is known."""
        key = next((key for words, key in _REFUSED.items() if words in refusal.lower()), None)
        return f"; set hydra.launcher.{key} to what the cluster has (now {self.params.get(key)})" if key else ""

    def _executor(self) -> submitit.AutoExecutor:
        given = {k: v for k, v in self.params.items() if k not in ("submitit_folder", "max_num_timeout")}
        general = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name", "stderr_to_stdout")
        executor = submitit.AutoExecutor(
            cluster="slurm", folder=self.params["submitit_folder"],
            slurm_max_num_timeout=self.params["max_num_timeout"],
        )  # fmt: skip
        if self.params["max_num_timeout"]:  # also where a site's jobs are not queued again unless they ask for it
            given["additional_parameters"] = {"requeue": True, **(given.get("additional_parameters") or {})}
        if cpus := given.get("cpus_per_task"):  # which srun no longer takes over from sbatch, since 22.05
            given["srun_args"] = [f"--cpus-per-task={cpus}"]
        executor.update_parameters(**{k if k in general else f"slurm_{k}": v for k, v in given.items()})
        return executor

    def __call__(self, part: Part, singleton_state: dict[type, Singleton]) -> list[Any]:
        """One job, on its node. Raises RuntimeError where a run failed, so that SLURM says FAILED."""
        with time_limit():
            threads = max(1, (self.params.get("cpus_per_task") or 1) // self.cells_per_job)
            if len(part) == 1:
                torch.set_num_threads(threads)  # without confinement PyTorch would take the whole node
                results = [self.one(*part[0], singleton_state)]
            else:
                results = side_by_side(self.one, [(*run, singleton_state) for run in part], threads)
        failures = {n: r for (_, n), r in zip(part, results, strict=True) if isinstance(r, Failure)}
        for number, failure in failures.items():
            said = "; ".join(failure.reason.splitlines())  # in the way in which its status looks for it
            print(f"{failure.trace or ''}run {number}: {said}", file=sys.stderr, flush=True)
        if failures:
            raise RuntimeError("; ".join(f.reason for f in failures.values()))
        return results

    def one(self, overrides: list[str], number: int, singleton_state: dict[type, Singleton]) -> Any:
        """One run in this process; what privsweep's job returns."""
        done = super().__call__(overrides, "hydra.sweep.dir", number, f"job_id_for_{number}", singleton_state)
        return done.return_value


def _begun(todo: Sequence[Run], noted: Path, output_dir: Path) -> dict[int, sweeps.Cell]:
    """Those of a sweep's runs that an earlier one's jobs have, by number; they are noted.

    Raises UserError where SLURM does not say whether these are over: others would wait for them, on nodes of their own.
    """
    sweep, observer = sweeps.read(noted), Observer(output_dir)
    assert sweep is not None
    had, numbers = observer.under_way(sweep), {n for _, n in todo}
    found = {c.number: had[c.signature] for c in sweep.cells if c.number in numbers and c.signature in had}
    if found and not observer.answered(sweep):
        jobs = ", ".join(cluster.arrays(str(cell.job) for cell in found.values()))
        raise UserError(
            f"hydra/launcher: squeue gives no answer, and earlier jobs ({jobs}) may still have {len(found)} of these "
            "runs; try again when it does"
        )
    sweeps.note_jobs(noted, {n: str(cell.job) for n, cell in found.items()}, {n: c.logs for n, c in found.items()})
    return found


def _came_to(batch: Batch, found: CellState, count: str) -> None:
    """Tells what came of a trial; that of a job that was lost is written down here."""
    number = found.cell.number
    assert number is not None  # it had a job
    if (one := trials.read(batch.folder / str(number))) is not None:
        batch.search.say(one)
    else:
        batch.lost(number, found.detail or found.state)


def _split(items: Sequence[T], size: int) -> list[list[T]]:
    return [list(items[start : start + size]) for start in range(0, len(items), size)]
