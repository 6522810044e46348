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
    from privsweep.run.trust import trusted  # here, for a wrong command line need not wait for it

    handle, path = tempfile.mkstemp(prefix="privsweep-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
        traceback.print_exception(error, file=file)
    reason = (str(error).strip().splitlines() or ["no words"])[0]
    told, roots = f"{type(error).__name__}: {reason}", trusted()
    places = [(frame.f_globals.get("__name__", ""), line) for frame, line in traceback.walk_tb(error.__traceback__)]
    module, line = next((place for place in reversed(places) if place[0].partition(".")[0] in roots), ("privsweep", 0))
    if module.partition(".")[0] == "privsweep":
        return f"{told}; a fault of privsweep: please report it with the traceback in {path}"
    return f"{told}; in {module}, line {line}: correct it, the traceback is in {path}"
