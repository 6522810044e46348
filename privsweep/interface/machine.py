"""What this machine has, for requests that it can never meet."""

from __future__ import annotations

import os

from privsweep.interface.errors import UserError

GIB = 2**30


def memory() -> int:
    """The machine's memory in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Raises UserError where ``needed`` bytes, a lower bound, are more than the machine has.

    ``what`` opens the line: the key, its value, and what takes the memory. Better here than after hours, or never.
    """
    there = memory()
    if needed > there:
        raise UserError(f"{what} needs {_gib(needed)} GiB, and this machine has {_gib(there)}; {remedy}")


def _gib(size: float) -> str:
    return f"{size / GIB:,.0f}" if size < 1e6 * GIB else f"{size / GIB:.0e}"
