"""Hydra's launcher for this machine: the runs of a sweep take turns, or several are done at once.

A network as small as the papers' hardly gains from a second thread, so on a CPU a run with a thread of its own on every
processor is the faster way.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from privsweep.cli import terminal
from privsweep.cli.bars import Bars
from privsweep.cli.batch import Batch, Run
from privsweep.cli.failure import Failure
from privsweep.cli.side_by_side import side_by_side
from privsweep.cli.trials import Trials
from privsweep.interface.machine import GIB, memory, processors
from privsweep.run import workbench
from privsweep.run.compose import composing
from privsweep.run.run_spec import RunSpec, Session
from privsweep.store import sweeps

BASIC = f"{BasicLauncher.__module__}.{BasicLauncher.__name__}"  # by which Hydra knows it
# What runs import sooner or later, most of it when the first optimiser is made: each would take seconds for it.
_LOADED_ONCE = ("torch._dynamo", "privsweep.run.outcome", "privsweep.metric.membership")
_BESIDE = 2.0  # GiB that a run is taken to need besides its attack


@dataclass(frozen=True)
class Share:
    """How runs share this machine."""

    session: Session
    each: float  # bytes that a run may take

    @classmethod
    def of(cls, specs: Sequence[RunSpec]) -> Share:
        """Of several runs, which attacks keep within their ``memory``."""
        held = [getattr(spec.attack, "memory", None) or 0.0 for spec in specs]
        return cls(specs[0].session, GIB * (_BESIDE + max(held)))

    def at_once(self, runs: int) -> int:
        """Of so many, those at once: what was asked for, or a processor each as far as memory goes.

        In turn where a GPU works, and where somebody counted threads, who may want to leave processors to others.
        """
        if self.session.at_once is not None:
            return max(1, min(self.session.at_once, runs))
        if self.session.threads is not None or self.session.resolve_device().type != "cpu":
            return 1
        return max(1, min(processors(), runs, int(memory() / self.each)))


@dataclass(frozen=True)
class Surroundings:
    """What a run in a process of its own finds as it would here."""

    environment: Mapping[str, str]
    folder: str
    painted: bool  # what it prints is shown on a terminal

    def settle(self) -> None:
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        if self.painted:
            terminal.paint()


@dataclass(frozen=True)
class Answer:
    """What a run in a process of its own came to, and what it printed."""

    number: int
    value: Any
    said: str
    complained: str


class AtOnce(BasicLauncher):  # type: ignore[misc]
    """In the place of Hydra's own; ``share`` is said before Hydra makes one."""

    share: Share

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        assert self.config is not None
        folder, search = Path(str(self.config.hydra.sweep.dir)), self.task_function
        noted = sweeps.place(self.share.session.output_dir, str(folder))
        numbered = [(list(o), n) for n, o in enumerate(job_overrides, initial_job_idx)]
        if isinstance(search, Trials):
            batch = Batch.begun(search, numbered, folder, noted, self.share.session.fail_fast)
            answers = self._at_once(batch.todo, Bars(noted, len(batch.todo), heads=False))
            for number, answer in answers.items():
                if isinstance(answer, Failure):
                    batch.lost(number, answer.reason)
            for overrides, number in batch.todo:
                if number not in answers:
                    _ = super().launch([overrides], number)[0].return_value  # raises what was no trial's failure
            return [returned(value) for value in batch.values()]
        todo = needed(self.config, noted, numbered)
        if not (answers := self._at_once(todo, Bars(noted, len(todo)))):
            return super().launch(job_overrides, initial_job_idx)
        values = {n: a.value if isinstance(a, Answer) else a for n, a in answers.items()}
        return [returned(values.get(n)) for _, n in numbered]

    def _at_once(self, todo: Sequence[Run], bars: Bars) -> dict[int, Answer | Failure]:
        """What runs came to that were done at once, by number; nothing where they are to take turns."""
        assert self.config is not None
        if (count := self.share.at_once(len(todo))) < 2:
            return {}
        threads = self.share.session.threads or max(1, processors() // count)
        terminal.say(
            f"{len(todo)} runs, {count} at once with {threads} thread{'s' * (threads > 1)} each; at_once=1: one after "
            f"the other, with all {processors()} processors"
        )
        context = helped([__name__, *_LOADED_ONCE])
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        with bars:
            here = Surroundings(dict(os.environ), os.getcwd(), bars.live)
            own = (self.hydra_context, self.config, self.task_function, here)
            answers = side_by_side(
                _one, [(*own, *run) for run in todo], threads, context=context, at_once=count, came=bars.came,
                look=lambda running: bars.look({todo[i][1]: pid for i, pid in running.items()}),
            )  # fmt: skip
        return dict(zip([number for _, number in todo], answers, strict=True))


def helped(loaded: Sequence[str]) -> BaseContext:
    """Processes that begin as forks of a helper, which loads these modules once, and which Ctrl-C does not reach.

    It is for this process to end them. The helper would see to that itself, but not before everything is loaded.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*loaded])
    resource_tracker.ensure_running()  # lets Ctrl-C through when it begins
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the helper inherits it
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def needed(config: DictConfig, noted: Path, runs: Sequence[Run]) -> list[Run]:
    """The runs of an ad hoc sweep that need a job; of a table only those are given."""
    sweep = sweeps.read(noted)
    if sweep is None or sweep.table or not str(config.hydra.sweeper._target_).endswith(".BasicSweeper"):
        return [*runs]
    numbers = {cell.number for cell in sweep.cells}
    return [run for run in runs if run[1] in numbers]


def returned(value: Any) -> JobReturn:
    """As Hydra's sweepers want it."""
    made = JobReturn()
    made.return_value, made.status = value, JobStatus.COMPLETED
    return made


def _one(context: Any, config: DictConfig, task: Any, here: Surroundings, overrides: list[str], number: int) -> Answer:
    """One run, in a process of its own, which prints nothing: others are at work."""
    workbench.QUIET_SECONDS = float("inf")  # whoever waits for it tells how far it is
    logging.getLogger(BasicLauncher.__module__).setLevel(logging.WARNING)  # of each run, that one is launched
    here.settle()
    launcher = BasicLauncher()
    launcher.setup(hydra_context=context, task_function=task, config=config)
    said, complained = StringIO(), StringIO()
    with redirect_stdout(said), redirect_stderr(complained), composing(context.config_loader):
        value = launcher.launch([overrides], number)[0].return_value
    return Answer(number, value, said.getvalue(), complained.getvalue())
