"""Files of the store that are not as they were written are set aside, with a line about it, and made again."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable

log = logging.getLogger(__name__)
ABSENT = (FileNotFoundError, NotADirectoryError)  # a file that raises one of these is not there


class SpoiltError(Exception):
    """Cut off, changed, or of something else; the message says which."""


def set_aside(path: Path, reason: object) -> None:
    """Renames a file or folder to ``<name>.corrupt``, in place of an earlier one; what may only be read is left."""
    aside = path.with_suffix(".corrupt")
    try:
        remove(aside)
        path.rename(aside)
    except OSError:
        say(f"{path}: {reason}; ignored")
    else:
        say(f"{path}: {reason}; set aside as {aside.name}, and made again when it is needed")


def unreadable(path: Path, error: OSError) -> UserError:
    """What to raise where the system does not hand over a file now: what is in it may be good, so it stays."""
    reason = error.strerror or error
    return UserError(f"{path}: cannot be read ({reason}) and is left as it is; see to that, then try again")


def remove(path: Path) -> None:
    """Whatever is there, if anything."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def say(message: str) -> None:
    """A line to stderr and to the log."""
    line = printable(message)
    print(f"privsweep: {line}", file=sys.stderr, flush=True)
    log.info("%s", line)
