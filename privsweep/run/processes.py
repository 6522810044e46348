"""Whether a process lives that has noted its number: after a restart, or in time, that may be another's."""

from __future__ import annotations

import os
from pathlib import Path

_BEGAN = 19  # its place in what Linux says of a process, after its name


def began(pid: int) -> str | None:
    """When a process of this machine did, which tells it from others of its number; None where nothing says so."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:  # no Linux
        return None
    told = _told(pid)
    return f"{boot} {told[_BEGAN]}" if told else None


def process_lives(pid: int, begun: str | None) -> bool:
    """Whether the process of this machine does that had this number, and began then where that is known."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    if pid <= 0 or _told(pid)[:1] in (["Z"], ["X"]):  # it has ended, and its parent has not asked how
        return False
    return begun is None or began(pid) in (begun, None)


def _told(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
