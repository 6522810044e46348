"""The most memory that a stretch of work took, for the estimates of later work."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from privsweep.interface import heap

_PROCESS = Path("/proc/self")
_GIB = 2**30


class PeakMemory:
    """Watches ``device`` from now on: a GPU's own memory, or on Linux all of this process's on a CPU."""

    def __init__(self, device: torch.device):
        self.device = device
        self.known = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
            return
        heap.trim()  # what earlier work has left is not this one's
        try:
            (_PROCESS / "clear_refs").write_text("5")  # the process's peak begins anew
        except OSError:
            self.known = False

    def gib(self) -> float | None:
        """The peak since the beginning; None where the system does not tell."""
        if not self.known:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / _GIB
        found = re.search(r"^VmHWM:\s+(\d+) kB", (_PROCESS / "status").read_text(), re.MULTILINE)
        return int(found[1]) * 1024 / _GIB if found else None
