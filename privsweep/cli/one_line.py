"""Command lines that are wrong are told as everything else is: in one line."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import NoReturn

from privsweep.interface.errors import UserError


def one_line(parser: ArgumentParser, program: str) -> ArgumentParser:
    """The parser, which raises UserError where it would print its usage and leave."""

    def refuse(message: str) -> NoReturn:
        raise UserError(f"{message}; {program} --help tells what there is")

    parser.error = refuse  # type: ignore[method-assign]
    return parser
