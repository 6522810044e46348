"""Runs what was planned: a single run in this process, a sweep through Hydra's sweeper and the chosen launcher."""

from __future__ import annotations

import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log, env_override
from omegaconf import DictConfig, OmegaConf

from privsweep.cli import terminal
from privsweep.cli.sweep import SweepPlan
from privsweep.interface.errors import UserError
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import Loaded, load, run
from privsweep.store.store import check_writable

log = logging.getLogger(__name__)
FAILED = 1  # exit code


def check_places(planned: SweepPlan, many: bool) -> None:
    """Raises UserError where results or logs cannot be written, or callbacks would not be called."""
    hydra = planned.hydra
    if hydra["callbacks"] and not many:
        raise UserError("hydra.callbacks: are called in sweeps; add -m, or leave them out")
    here, sweep = Path(hydra["run"]["dir"]), Path(hydra["sweep"]["dir"])
    places = [("hydra.run.dir", here)]
    if many:
        places = [("hydra.sweep.dir", sweep), ("hydra.sweep.subdir", sweep / str(hydra["sweep"]["subdir"]))]
    for name, handler in hydra["job_logging"].get("handlers", {}).items():
        key, file = f"hydra.job_logging.handlers.{name}.filename", handler.get("filename")
        if not many and file and (folder := Path(os.path.abspath(file)).parent) != Path(os.path.abspath(here)):
            if not folder.is_dir():
                raise UserError(f"{key}={file}: there is no such folder; make it, or choose another")
            places.append((key, folder))
    check_writable(planned.runs[0].spec.session.output_dir, places)


def ready(planned: SweepPlan) -> Loaded | None:
    """What the one run of a plan works on; None where it is stored. Raises UserError before anything is written."""
    [one] = planned.runs
    return load(one.spec) if one.missing else None


def single(planned: SweepPlan, loaded: Loaded | None) -> int:
    """The one run of a plan; the exit code. Raises UserError."""
    [spec] = [one.spec for one in planned.runs]
    with _logging(planned.hydra) if loaded else nullcontext():  # a stored one is shown, and nothing is written
        try:
            terminal.start(spec)
            terminal.finish(spec, run(spec, loaded))
        except UserError as error:
            log.error("%s", error)
            raise
        except Exception as error:
            log.exception("the run failed")
            terminal.complain(f"{type(error).__name__}: {error}")
            traceback.print_exception(error)
            return FAILED
    return 0


def launch(planned: SweepPlan, config_dir: str | None) -> list[str]:
    """Runs what is missing of a table, or an ad hoc sweep; why jobs were refused, one line each.

    A launcher that loses a job raises; what the others filed is kept, and the caller looks it up.
    """
    cells = {todo.name: todo.overrides for todo in planned.missing} if planned.table else {}
    with searching(config_dir) as hydra:
        try:
            batches = hydra.multirun("config", partial(job, cells), planned.for_hydra(cells))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            log.exception("the launcher gave up")
            reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
            return [
                f"the launcher gave up ({reason}); finished runs are stored, and the same command goes on from there"
            ]
    return [done.return_value for batch in batches for done in batch if done.return_value]


def job(cells: Mapping[str, Sequence[str]], cfg: DictConfig) -> str | None:
    """One job of Hydra's, in this process or on a node of a cluster; why it was refused, or None.

    ``cells`` are the overrides of a table's cells by name. Failures are filed in the store, not raised.
    """
    try:
        spec = build(compose(cells.get(str(cfg.cell), HydraConfig.get().overrides.task)), fetch=True)
        terminal.start(spec)
        terminal.finish(spec, run(spec))
    except UserError as error:
        log.error("%s", error)
        return str(error)
    except Exception as error:
        if type(error).__module__.startswith("submitit"):  # a time limit: the launcher must see it
            raise
        log.exception("the run failed")
    return None


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
