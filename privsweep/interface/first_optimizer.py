"""What PyTorch imports when a process makes its first optimiser: it takes over a second, and is no part of the work."""

from __future__ import annotations

import sys
import threading
import time
from importlib import import_module

_IMPORTED = "torch._dynamo"
_TURN = threading.Lock()
seconds = 0.0  # that it took, or nothing yet


def imported() -> None:
    """Sees to it now, so that whoever times the work around it can tell the one from the other."""
    global seconds
    with _TURN:
        if _IMPORTED not in sys.modules:
            began = time.perf_counter()
            import_module(_IMPORTED)
            seconds += time.perf_counter() - began
