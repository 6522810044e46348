"""Locks between processes, on this machine and on a shared disk that knows them."""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from privsweep.interface.errors import UserError
from privsweep.store.spoilt import say

_UNKNOWN = (errno.ENOLCK, errno.EOPNOTSUPP)  # what a disk without locks answers


class BusyError(Exception):
    """Another process works on it."""


@contextmanager
def locked(path: Path, wait: str | None = "") -> Iterator[None]:
    """One process at a time holds the lock at ``path``.

    wait: a line to say before waiting for another process; None: BusyError is raised instead.

    Raises UserError where the disk knows no locks.
    """
    lock = FileLock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if wait is None:
                raise BusyError(path.stem) from None
            if wait:
                say(wait)
            lock.acquire()
    except OSError as error:
        raise _explained(path, error) from error
    try:
        yield
    finally:
        lock.release()


def held(path: Path) -> bool:
    """Whether a process holds the lock at ``path``; asked without writing. Raises UserError as ``locked`` does."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _explained(path, error) from error
    return False


def _explained(path: Path, error: OSError) -> Exception:
    if error.errno not in _UNKNOWN:
        return error
    return UserError(
        f"{path}: the disk gives no locks ({error.strerror}), without which two processes would spoil each other's "
        "results; choose an output_dir on another disk, or have this one mounted with locks"
    )
