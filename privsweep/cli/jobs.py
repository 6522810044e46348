"""Runs what was planned: a single run in this process, a sweep through Hydra's sweeper and the chosen launcher."""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import socket
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log, env_override
from omegaconf import DictConfig, OmegaConf

from privsweep.cli import cluster, terminal
from privsweep.cli.at_once import BASIC, AtOnce, Share
from privsweep.cli.cells import words_of
from privsweep.cli.failure import Failure
from privsweep.cli.go_on import go_on
from privsweep.cli.launcher_checks import SLURM
from privsweep.cli.same_command import same_command
from privsweep.cli.states import Observer
from privsweep.cli.sweep import SweepPlan
from privsweep.interface.errors import UserError
from privsweep.run.ahead import train_ahead
from privsweep.run.build import build
from privsweep.run.compose import compose, searching, typed_for
from privsweep.run.hydra_settings import inside
from privsweep.run.processes import began
from privsweep.run.run import Loaded, run
from privsweep.store import sweeps
from privsweep.store.full_disk import no_room
from privsweep.store.store import Store
from privsweep.store.tidy import tidy
from privsweep.store.writable import check_writable

log = logging.getLogger(__name__)
FAILED = 1  # exit code
LOG = "privsweep.log"  # in a job's folder


def check_places(planned: SweepPlan, many: bool) -> None:
    """Raises UserError where results or logs cannot be written, or where nobody would do what is asked."""
    hydra, session = planned.hydra, planned.runs[0].spec.session
    if hydra["callbacks"] and not many:
        raise UserError("hydra.callbacks: are called in sweeps; add -m, or leave them out")
    here, sweep = Path(hydra["run"]["dir"]), Path(hydra["sweep"]["dir"])
    places = [("hydra.run.dir", here)]
    if many:
        if planned.search and not session.wait:
            raise UserError("wait=false: a search goes by what its trials came to; leave it out")
        prepare_launcher(hydra["launcher"], Share.of([run.spec for run in planned.missing or planned.runs]))
        places = [("hydra.sweep.dir", sweep), ("hydra.sweep.subdir", sweep / str(hydra["sweep"]["subdir"]))]
    for name, handler in hydra["job_logging"].get("handlers", {}).items():
        key, file = f"hydra.job_logging.handlers.{name}.filename", handler.get("filename")
        if not many and file and (folder := Path(os.path.abspath(file)).parent) != Path(os.path.abspath(here)):
            if not folder.is_dir():
                raise UserError(f"{key}={file}: there is no such folder; make it, or choose another")
            places.append((key, folder))
    check_writable(session.output_dir, places)


def single(planned: SweepPlan, loaded: Loaded | None, config_dir: str | None) -> int:
    """The one run of a plan; the exit code. ``loaded``: what it works on, None where it is stored. Raises UserError."""
    [(spec, before)] = [(one.spec, one.before) for one in planned.runs]
    if loaded:
        tidy(Store(spec.session.output_dir))
    with _logging(planned.hydra) if loaded else nullcontext():  # a stored one is shown, and nothing is written
        try:
            terminal.start(spec)
            record = run(spec, loaded, before)
            terminal.finish(spec, record, go_on(spec, record, planned.typed, config_dir))
        except UserError as error:
            log.error("%s", error)
            raise
        except Exception as error:
            log.exception("the run failed")
            full = no_room(spec.session.output_dir, error)
            terminal.complain(full or f"{type(error).__name__}: {error}")
            if not full:
                traceback.print_exception(error)
            return FAILED
    return 0


@dataclass(frozen=True)
class Launched:
    """What came of a sweep's jobs, beside what they filed."""

    complaints: list[str]  # about the launcher, one line each
    failures: Mapping[int, str]  # why runs failed that this command did, by number: a full disk takes no note of it


def launch(planned: SweepPlan, config_dir: str | None) -> Launched:
    """Runs what is missing of a table, or an ad hoc sweep.

    Failed runs are told as they fail. A launcher that loses a job raises; what the others filed is kept, and the
    caller looks it up. ``check_places`` comes first. Raises UserError.
    """
    session = planned.runs[0].spec.session
    tidy(Store(session.output_dir))
    planned = planned.shared() if planned.table else planned
    cells = {todo.name: todo.overrides for todo in planned.missing} if planned.table else {}
    noted, new = note(planned, config_dir), not os.path.lexists(planned.sweep_dir)
    if planned.launcher == "basic":
        train_ahead([todo.spec for todo in planned.missing])
    with searching(config_dir) as hydra:
        try:
            batches = hydra.multirun("config", partial(job, cells, planned.swept), planned.for_hydra(cells))
        except UserError:
            noted.unlink(missing_ok=True)
            if new:  # SLURM took no job: what Hydra noted of it and what would have been submitted
                shutil.rmtree(planned.sweep_dir, ignore_errors=True)
            raise
        except (Exception, SystemExit) as error:
            log.exception("the launcher gave up")
            if full := no_room(session.output_dir, error):
                return Launched([full], {})
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            kept = "finished runs are stored, and the same command goes on from there"
            return Launched([f"the launcher gave up ({reason}); {kept}"], {})
    values = enumerate(done.return_value for batch in batches for done in batch)
    return Launched([], {number: value.reason for number, value in values if isinstance(value, Failure)})


def job(cells: Mapping[str, Sequence[str]], swept: Sequence[str], cfg: DictConfig) -> Failure | None:
    """One job of Hydra's, in this process or on a node of a cluster; how it failed, or None.

    ``cells`` are the overrides of a table's cells by name, ``swept`` the keys that a sweep varies. Failures are told,
    logged and filed, not raised; but for the end of a job's time, which its launcher must see.
    """
    own = HydraConfig.get()
    noted = sweeps.place(Path(cfg.output_dir), own.sweep.dir)
    if sweeps.stopped(noted):
        return Failure(sweeps.LEFT_OUT)
    name, overrides = str(cfg.cell), typed_for(own)
    try:
        spec = build(compose(cells.get(name, overrides)), fetch=True)
        terminal.start(spec)
        before = sweeps.before(noted, spec.signature) if spec.session.force else None
        terminal.finish(spec, run(spec, before=before))
        return None
    except UserError as error:
        log.error("%s", error)
        full = no_room(Path(cfg.output_dir), error)
        failure = Failure(full or str(error))
    except Exception as error:
        log.exception("the run failed")
        full = no_room(Path(cfg.output_dir), error)
        failure = Failure(full or f"{type(error).__name__}: {error}", traceback.format_exc())
    terminal.failed(name if cells else words_of(overrides, swept), failure.reason, Path(own.runtime.output_dir, LOG))
    if full or cfg.fail_fast:  # without room all others would fail alike
        sweeps.stop(noted)
    return failure


def note(planned: SweepPlan, config_dir: str | None) -> Path:
    """Notes a sweep that starts now, for those who follow it; the file."""
    session, sweep_dir = planned.runs[0].spec.session, planned.sweep_dir
    folder = os.path.abspath(sweep_dir)
    if inside(folder, str(session.output_dir)):
        folder = os.path.relpath(folder, session.output_dir)
    jobs = enumerate(planned.missing) if planned.table else ((int(run.name), run) for run in planned.runs)
    known = [] if planned.search else planned.runs  # of a search the trials are noted as they come
    numbers = {run.name: number for number, run in jobs if run.missing}
    path = sweeps.place(session.output_dir, sweep_dir)
    found = [
        sweeps.Cell(
            name=run.name if planned.table else words_of(run.overrides, planned.swept), signature=run.spec.signature,
            number=numbers.get(run.name), before=run.before,
        )
        for run in known
    ]  # fmt: skip
    sweep = sweeps.Sweep(
        table=planned.name, scale=session.scale, overrides=planned.said, cells=found, folder=folder,
        to_come=planned.hydra["sweeper"]["n_trials"] if planned.search else 0,
        started=datetime.now(UTC).isoformat(timespec="seconds"), launcher=planned.launcher,
        config_dir=config_dir, host=socket.gethostname(), pid=os.getpid(), began=began(os.getpid()),
        user=getpass.getuser(), command=same_command(planned, hidden=True), cwd=os.getcwd(),
    )  # fmt: skip
    sweeps.write(path, sweep)
    return path


def prepare_launcher(launcher: Mapping[str, Any], share: Share) -> None:
    """Puts ours in the place of Hydra's own, and of SLURM's, which waits for all jobs and tells nothing.

    ``check_launcher`` comes first. Raises UserError where there is no SLURM.
    """
    plugins = Plugins.instance().class_name_to_class  # by the names that Hydra knows
    if launcher["_target_"] == BASIC:
        AtOnce.share = share
        plugins[BASIC] = AtOnce
    if launcher["_target_"] == SLURM:
        from privsweep.cli.slurm import JobArrays  # here, for it needs an extra

        cluster.require_sbatch()
        plugins[SLURM] = JobArrays


def tell_failures(planned: SweepPlan, failures: Mapping[int, str]) -> int:
    """Lists the runs that the sweep just made did not bring to their end; how many there are.

    ``failures``: as ``launch`` knows them.
    """
    output_dir = planned.runs[0].spec.session.output_dir
    noted = sweeps.place(output_dir, planned.sweep_dir)
    sweep = sweeps.read(noted)
    found = [s for s in Observer(output_dir, over=True).states(sweep, noted) if s.state != "done"] if sweep else []
    if found:
        terminal.complain(f"{len(found)} of {len(planned.runs)} runs did not come to their end:")
    for state in found:
        number = state.cell.number
        unfiled = failures.get(number) if state.state == "not run" and number is not None else None
        terminal.failed(state.cell.name, unfiled or state.detail, state.log)
    return len(found)


@contextmanager
def _logging(hydra: Mapping[str, Any]) -> Iterator[None]:
    """As in a job of Hydra's: a log file in a folder of its own, which keeps tracebacks, and the variables set."""
    folder = Path(hydra["runtime"]["output_dir"])
    folder.mkdir(parents=True, exist_ok=True)
    own = OmegaConf.create({"logging": hydra["job_logging"], "verbose": hydra["verbose"]})
    try:
        configure_log(own.logging, own.verbose)
    except ValueError as error:
        with suppress(OSError):
            folder.rmdir()
        raise UserError(f"hydra.job_logging: cannot be set up ({error.__cause__ or error}); correct it") from error
    with env_override(hydra["job"]["env_set"]):
        yield
