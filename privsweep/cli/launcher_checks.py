"""What is asked of a launcher is judged before it works: SLURM's says it in a traceback, or submits nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from privsweep.cli.at_once import BASIC
from privsweep.cli.sweep import SweepPlan
from privsweep.interface.errors import UserError

SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
_LEAST = {  # of whole numbers
    "cpus_per_task": 1,
    "gpus_per_node": 0,
    "timeout_min": 1,
    "signal_delay_s": 0,
    "max_num_timeout": 0,
    "cells_per_job": 1,
    "array_parallelism": 1,
    "array_size": 1,
}
_NULL = ("cpus_per_task", "gpus_per_node", "array_size", "mem_gb")  # leaves it to the cluster
_FLAGS = ("stderr_to_stdout", "use_srun")


def check_launcher(planned: SweepPlan, many: bool) -> None:
    """Raises UserError where it would not do what is asked."""
    launcher, session = planned.hydra["launcher"], planned.runs[0].spec.session
    if launcher["_target_"] != BASIC and not many:
        raise UserError(
            f"hydra/launcher={planned.launcher}: submits sweeps and tables, and this is one run, which would run here; "
            "add -m to submit it, or take hydra/launcher=basic"
        )
    if not many and not planned.hydra["sweeper"]["_target_"].endswith(".BasicSweeper"):
        raise UserError(
            f"hydra/sweeper={planned.hydra['runtime']['choices']['hydra/sweeper']}: searches with -m alone, and this "
            "is one run; write -m hydra/sweeper=search and something to choose, such as 'attack.lr=interval(0.1,2)', "
            "or leave it out"
        )
    if launcher["_target_"] != BASIC and session.at_once is not None:
        raise UserError(
            f"at_once={session.at_once}: is for runs on this machine; leave it out (hydra.launcher.cells_per_job puts "
            "several on one GPU of a cluster)"
        )
    if launcher["_target_"] == SLURM:
        _check_values(launcher)
    elif many and not session.wait:
        raise UserError("wait=false: only SLURM takes over what is submitted; add hydra/launcher=slurm, or wait")


def _check_values(launcher: Mapping[str, Any]) -> None:
    for word, value in launcher.items():
        wrong = None
        if value is None and word in _NULL:
            continue
        if word in _LEAST and (not _number(value, int) or value < _LEAST[word]):
            wrong = f"must be a whole number of {_LEAST[word]} or more"
        elif word == "mem_gb" and (not _number(value, int | float) or value < 0):
            wrong = "must be a number of gigabytes"
        elif word in _FLAGS and not isinstance(value, bool):
            wrong = "must be true or false"
        elif word == "setup" and value is not None and not _lines(value):
            wrong = """must be lines of a shell; write '["..."]'"""
        if wrong:
            shown = "null" if value is None else value
            raise UserError(f"hydra.launcher.{word}={shown}: {wrong}{', or null' * (word in _NULL)}")
    minutes, delay = launcher["timeout_min"], launcher["signal_delay_s"]
    if 60 * minutes <= delay + 60:  # SLURM may tell a job a minute before that
        raise UserError(
            f"hydra.launcher.timeout_min={minutes}: a job is told of its end signal_delay_s={delay} before, which "
            f"leaves it no time; ask for {delay // 60 + 2} minutes or more, or lower signal_delay_s"
        )


def _lines(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(line, str) for line in value)


def _number(value: Any, kinds: Any) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
