"""The ``privsweep`` command: checks everything, hands the jobs to Hydra, shows what came of them."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from privsweep.cli import sweep
from privsweep.cli import terminal as present
from privsweep.interface.errors import UserError
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose
from privsweep.run.run import run

log = logging.getLogger(__name__)
REFUSED, FAILED = 2, 1  # exit codes
_outcome: dict[str, Any] = {}  # of a single run, for main: Hydra would print a traceback and exit by itself


@hydra.main(config_path=str(CONF), config_name="config", version_base="1.3")
def task(cfg: DictConfig) -> None:
    """One job, in this process or on a node of a cluster. Failures are filed in the store, not raised."""
    overrides = list(HydraConfig.get().overrides.task)
    try:
        composed = compose(overrides) if cfg.cell is None else sweep.compose_named_cell(overrides, cfg.cell)
        spec = build(composed, fetch=True)
        present.start(spec)
        record = run(spec)
        present.finish(spec, record)
    except UserError as error:
        _outcome["refused"] = str(error)
        log.error("%s", error)
    except Exception as error:
        if type(error).__module__.startswith("submitit"):  # a time limit: the launcher must see it
            raise
        _outcome["failed"] = error
        log.exception("the run failed")


def main() -> None:
    """Entry point. Exit codes: 0 all done, 1 something failed or is missing, 2 the request was refused."""
    args = _arguments()
    if any((args.help, args.hydra_help, args.shell_completion, args.cfg, args.info)):
        task()
        return
    try:
        _no_strange_flags(args)
        planned = sweep.plan(args.overrides, args.config_dir, args.multirun)
        if planned.table or args.multirun:
            sweep.check_data(planned)
    except UserError as error:
        present.complain(str(error))
        sys.exit(REFUSED)
    if planned.runs[0].spec.session.plan:
        present.plan(planned)
        return
    code = _table(planned, args) if planned.table else _sweep(planned, args) if args.multirun else _single()
    sys.exit(code)


def _arguments() -> Any:
    """Hydra's flags wherever they stand among the overrides; Hydra itself, which reads them again, is pickier."""
    parser = get_args_parser()
    args = parser.parse_intermixed_args()
    flags = [a for a in sys.argv[1:] if a not in args.overrides]
    sys.argv[1:] = [*flags, *args.overrides]
    return args


def _no_strange_flags(args: Any) -> None:
    if args.experimental_rerun:
        raise UserError("--experimental-rerun: would unpickle a file; run the command again, stored runs are reused")
    for flag in ("config_path", "config_name"):
        if getattr(args, flag):
            raise UserError(f"--{flag.replace('_', '-')}: is fixed; bring your own choices with --config-dir")


def _single() -> int:
    task()
    if "refused" in _outcome:
        present.complain(_outcome["refused"])
        return REFUSED
    if "failed" in _outcome:
        error = _outcome["failed"]
        present.complain(f"{type(error).__name__}: {error}")
        traceback.print_exception(error)
        return FAILED
    return 0


def _sweep(planned: sweep.SweepPlan, args: Any) -> int:
    if planned.missing:
        _launch()
        planned = sweep.plan(args.overrides, args.config_dir, multirun=True)
    return present.summarise(planned)


def _table(planned: sweep.SweepPlan, args: Any) -> int:
    missing = planned.missing
    if missing:
        cells = ",".join(run.name for run in missing)
        given = [a for a in sys.argv[1:] if a not in ("-m", "--multirun")]
        sys.argv[1:] = ["--multirun", *sweep.acceptable(given), f"cell={cells}"]
        _launch()
        planned = sweep.plan(sweep.without(args.overrides, ["force"]), args.config_dir, multirun=False)
    return present.table(planned)


def _launch() -> None:
    """Runs Hydra's sweeper. A launcher that loses a job exits; what the others filed is shown all the same."""
    try:
        task()
    except SystemExit as stop:
        if stop.code:
            log.error("the launcher gave up; finished runs are stored, and the same command goes on from there")


if __name__ == "__main__":
    main()
