"""A command outlives its terminal: one that is closed shows nothing more, and takes no run with it."""

from __future__ import annotations

import errno
import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any


class _Shown(FileIO):
    """What goes to a terminal, and nowhere once there is none any more."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno != errno.EIO:  # the shell has left, and let this process go on: bg, disown, exit
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            return memoryview(data).nbytes


def outlive_terminal() -> None:
    """From now on whatever is printed to a terminal may be: without it, a line that nobody sees would end a sweep."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, TextIOWrapper) and stream.isatty():
            stream.flush()
            made = TextIOWrapper(
                BufferedWriter(_Shown(stream.fileno(), "w", closefd=False)),
                stream.encoding, stream.errors, line_buffering=True,
            )  # fmt: skip
            setattr(sys, name, made)
