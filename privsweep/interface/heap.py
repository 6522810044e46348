"""The C library's heap, of which freed memory is kept for the next step of a training or an attack.

By default glibc hands every large block back to the system as soon as it is freed, and the next one comes back page
by page, each to be zeroed: a fifth of the time of training a convolutional network on one core. A block that is kept
costs nothing to take again.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress

# glibc's <malloc.h>
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3
_KEPT = 2**31 - 1  # bytes free at the heap's end that are kept; the largest number that mallopt takes
_GROWN_BY = 2**26  # bytes
_OF_THEIR_OWN = (2**30, 2**25)  # blocks from this size are the system's; older versions take no more than the second
_USERS = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # variables that say how memory is to be had, or from whom


def keep() -> None:
    """From now on; where another C library, or the user's environment, decides on memory, nothing is done."""
    if any(name.startswith(_USERS) for name in os.environ):
        return
    with suppress(AttributeError, OSError):
        set_to: Callable[[int, int], int] = ctypes.CDLL(None).mallopt
        if any(set_to(_MMAP_THRESHOLD, size) for size in _OF_THEIR_OWN):
            set_to(_TRIM_THRESHOLD, _KEPT)
            set_to(_TOP_PAD, _GROWN_BY)


def trim() -> None:
    """Gives back to the system what is free."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
