"""What this process may use of the machine, for requests that can never be met, and for how much is done at once."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from privsweep.interface.errors import UserError

GIB = 2**30
_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def processors() -> int:
    """Those that it may use, by affinity and by the limits of a container."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for words in _limits("cpu.max"):  # microseconds in each of so many
        if len(words) == 2 and all(word.isdigit() for word in words):
            there = min(there, max(1, int(words[0]) // int(words[1])))
    return there


def memory() -> int:
    """The machine's memory in bytes, or what a container leaves of it."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([there, *(int(words[0]) for words in _limits("memory.max") if words and words[0].isdigit())])


def _limits(name: str) -> Iterator[list[str]]:
    """What Linux's control groups (version 2) say for this process, from its own up to the root."""
    with suppress(OSError, UnicodeDecodeError):
        own = next((line[3:] for line in _OWN.read_text().splitlines() if line.startswith("0::")), "/")
        group = _GROUPS / own.strip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(_GROUPS) and (path := folder / name).is_file():
                yield path.read_text().split()


def check_memory(needed: float, what: str, remedy: str) -> None:
    """Raises UserError where ``needed`` bytes, a lower bound, are more than there are.

    ``what`` opens the line: the key, its value, and what takes the memory. Better here than after hours, or never.
    """
    there = memory()
    if needed > there:
        raise UserError(f"{what} needs {_gib(needed)} GiB, and this machine has {_gib(there)}; {remedy}")


def enough_gib(size: float) -> str:
    """The least of two digits that ``size`` bytes fit into, to be typed as it is."""
    gib = size / GIB
    step = 10.0 ** (math.floor(math.log10(gib)) - 1)
    return f"{math.ceil(gib / step) * step:.2g}" if step < 1 else f"{math.ceil(gib / step) * int(step)}"


def _gib(size: float) -> str:
    return f"{size / GIB:,.0f}" if size < 1e6 * GIB else f"{size / GIB:.0e}"
