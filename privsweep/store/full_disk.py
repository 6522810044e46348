"""Whether there was no room for a file, whoever wrote it."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from safetensors import SafetensorError

from privsweep.interface.printable import shown

_CODES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, the user's share of it is, or a file's limit


def full_disk(error: BaseException | None) -> str | None:
    """What the system says, where ``error`` or what it came from is about that; None otherwise."""
    while error is not None:
        code = error.errno if isinstance(error, OSError) else None
        if isinstance(error, SafetensorError) and (found := re.search(r"(?:code:|os error) (\d+)", str(error))):
            code = int(found[1])
        if code in _CODES:
            return os.strerror(code)
        error = error.__cause__ or error.__context__
    return None


def no_room(folder: Path, error: BaseException, key: str = "output_dir") -> str | None:
    """One line on the disk of the ``folder`` under ``key``, where the error came from that it is full."""
    if (said := full_disk(error)) is None:
        return None
    return (
        f"{key}={shown(folder)}: no room for results ({said}); what was finished before is kept: make room, and the "
        "same command goes on from there"
    )
