"""Where the commands begin: each is loaded here, so that Ctrl-C is told in one line even while it loads."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from privsweep.cli.interrupts import INTERRUPTED
from privsweep.cli.outlived import outlive_terminal
from privsweep.cli.signs import any_encoding

CLOSED = 141  # as a shell tells of a command that SIGPIPE has ended


def privsweep() -> int:
    return _enter("main", "privsweep")


def report() -> int:
    return _enter("report")


def status() -> int:
    return _enter("status")


def data() -> int:
    return _enter("data")


def store() -> int:
    return _enter("store")


def matrix() -> int:
    return _enter("matrix")


def _enter(module: str, program: str = "") -> int:
    """The exit code of the module's ``main``, given the arguments of the shell; 130 after Ctrl-C."""
    os.environ["MPLBACKEND"] = "agg"  # a notebook's shell names a backend that need not be installed here
    any_encoding()
    outlive_terminal()
    try:
        code: int = import_module(f"privsweep.cli.{module}").main()
        return code
    except KeyboardInterrupt:
        print(f"{program or f'privsweep-{module}'}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever read it has seen enough; what is left to flush goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
