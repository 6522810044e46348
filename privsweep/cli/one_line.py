"""Wrong command lines, and what nobody foresaw, are told as everything else is: in one line."""

from __future__ import annotations

import os
import tempfile
import traceback
from argparse import ArgumentParser
from typing import NoReturn

from privsweep.interface.errors import UserError


def one_line(parser: ArgumentParser, program: str) -> ArgumentParser:
    """The parser, which raises UserError where it would print its usage and leave."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; {program} --help tells what there is")

    parser.error = refuse  # type: ignore[method-assign]
    return parser


def noted(error: Exception) -> str:
    """One line on an error that nobody foresaw; its traceback is written to a file that the line names."""
    handle, path = tempfile.mkstemp(prefix="privsweep-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        traceback.print_exception(error, file=file)
    reason = (str(error).strip().splitlines() or ["no words"])[0]
    return f"{type(error).__name__}: {reason}; a fault of privsweep: please report it with the traceback in {path}"
