"""The ``privsweep`` command: plans and checks everything, runs what is missing, shows the results."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import TYPE_CHECKING

from hydra._internal.utils import get_args_parser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from privsweep.cli.interrupts import INTERRUPTED, TERMINATED, Terminated, terminable
from privsweep.cli.one_line import noted, one_line
from privsweep.interface.errors import UserError
from privsweep.interface.folders import check_folder
from privsweep.run.compose import searching
from privsweep.run.explain import explain

if TYPE_CHECKING:
    from privsweep.cli.sweep import SweepPlan

FAILED, REFUSED = 1, 2  # exit codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point: plans the run, the sweep or the table, then runs what is not stored.

    Without ``arguments``, those of the shell count. Exit codes: 0 all done, 1 something failed or is missing, 2 the
    request was refused, 130 and 143 it was interrupted by Ctrl-C or SIGTERM.
    """
    logging.raiseExceptions = False  # a log that a full disk does not take is not worth a traceback
    planned: SweepPlan | None = None
    try:
        parser = one_line(_parser(), "privsweep")
        args = parser.parse_intermixed_args(arguments)  # flags may stand among the overrides
        with terminable():
            if args.version:
                from privsweep.store.environment import in_words

                print(in_words())
                return 0
            if any((args.help, args.hydra_help, args.shell_completion, args.cfg, args.info)):
                return _show(args, parser)
            # Everywhere as late as can be: help need not wait for planning, nor a refusal or a stored run for more.
            from privsweep.cli import sweep, terminal
            from privsweep.cli.data_checks import check_data
            from privsweep.store.checksums import postponed

            _no_strange_flags(args)
            loaded, unchecked = None, list[str]()
            with postponed():  # a request that is refused has written nothing
                planned = sweep.plan(args.overrides, args.config_dir, args.multirun)
                terminal.brought(planned)
                from privsweep.cli import jobs
                from privsweep.cli.launcher_checks import check_launcher

                many = args.multirun or planned.table is not None
                session = planned.runs[0].spec.session
                works = bool(planned.missing) or planned.search  # the ends of a search may be stored, not what it tries
                if works:
                    check_launcher(planned, many)
                if many or session.plan:
                    unchecked = check_data(planned)
                elif planned.missing:
                    from privsweep.run.run import load

                    loaded = load(planned.runs[0].spec)
                if works:
                    check_folder("output_dir", session.output_dir)
                if works and not session.plan:
                    jobs.check_places(planned, many)
            if session.plan:
                from privsweep.cli import plan

                plan.show(planned, unchecked)
                return 0
            if not many:
                return jobs.single(planned, loaded, args.config_dir)
            if planned.search:
                from privsweep.cli import search

                return search.run(planned, args.config_dir)
            launched = jobs.Launched([], {})
            if planned.missing:
                launched = jobs.launch(planned, args.config_dir)
                for complaint in launched.complaints:
                    terminal.complain(complaint)
                if not session.wait:
                    return FAILED if launched.complaints else 0
                planned = planned.looked_up()
            from privsweep.cli import results

            code = results.table(planned) if planned.table else results.summarise(planned)
            return FAILED if jobs.tell_failures(planned, launched.failures) else code
    except UserError as error:
        from privsweep.cli.terminal import complain

        complain(str(error))
        return REFUSED
    except KeyboardInterrupt as stop:
        if planned is None:  # PyTorch, interrupted while it loads, cannot be loaded again to say so
            print("privsweep: interrupted before anything ran", file=sys.stderr)
        else:
            from privsweep.cli.terminal import stopped

            stopped(planned)
        return TERMINATED if isinstance(stop, Terminated) else INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # no refusal, and no run that failed: a full disk, or a fault of the program
        from privsweep.cli.terminal import complain
        from privsweep.store.full_disk import no_room

        full = planned and isinstance(error, OSError) and no_room(planned.runs[0].spec.session.output_dir, error)
        complain(full or noted(error))
        return FAILED


def _parser() -> argparse.ArgumentParser:
    """Hydra's flags, but for its version."""
    hydras = get_args_parser()
    parser = argparse.ArgumentParser(
        add_help=False, description=hydras.description, parents=[hydras], conflict_handler="resolve"
    )
    parser.add_argument("--version", action="store_true", help="Show the versions of privsweep and of what it uses")
    return parser


def _show(args: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Hydra's own flags: help, what is configured, tab completion."""
    from privsweep.cli.completion import folder_of, plugins

    with searching(folder_of(args) if args.shell_completion else args.config_dir) as hydra:
        try:
            if args.help:
                hydra.app_help("config", parser, args)
            elif args.hydra_help:
                hydra.hydra_help("config", parser, args)
            elif args.cfg:
                with redirect_stderr(StringIO()):  # Hydra's own words for a package that is not there
                    hydra.show_cfg("config", args.overrides, args.cfg, args.package, args.resolve)
            elif args.shell_completion:
                hydra.get_shell_to_plugin_map = plugins  # type: ignore[method-assign, assignment]
                hydra.shell_completion("config", args.overrides)
            else:
                hydra.show_info(args.info, "config", args.overrides)
        except SystemExit as stop:
            raise UserError(f"--package={args.package}: no such part; --cfg {args.cfg} shows all of them") from stop
        except (HydraException, OmegaConfBaseException, ValueError) as error:
            raise UserError(explain(error, args.overrides)) from error
    return 0


def _no_strange_flags(args: argparse.Namespace) -> None:
    if args.experimental_rerun:
        raise UserError("--experimental-rerun: would unpickle a file; run the command again, stored runs are reused")
    if args.run and args.multirun:
        raise UserError("--run: is one run and --multirun a sweep; leave one of them out")
    for flag in ("config_path", "config_name"):
        if getattr(args, flag):
            raise UserError(f"--{flag.replace('_', '-')}: is fixed; bring your own choices with --config-dir")
    if args.resolve or args.package:
        raise UserError(f"--{'resolve' if args.resolve else 'package'}: goes with --cfg; add --cfg job")


if __name__ == "__main__":
    sys.exit(main())
