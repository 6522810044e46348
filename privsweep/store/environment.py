"""What a result was computed with."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

PACKAGES = ("privsweep", "torch", "numpy", "hydra-core")


def environment(device: torch.device) -> dict[str, Any]:
    """Device, versions and date, for the record."""
    import torch  # here, as what knows of it, for the processor's name needs none

    from privsweep.compiled.library import compiling
    from privsweep.interface.replayed import launching
    from privsweep.interface.rounding import precision_on

    return {
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "threads": torch.get_num_threads(),
        "precision": precision_on(device),
        "kernels": launching.in_words() if device.type == "cuda" else compiling.in_words(),
        "versions": versions(),
        "commit": _commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str | None]:
    """Of Python and of the packages that results may depend on; None where one is not installed."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def in_words() -> str:
    """The versions, and the source's commit where it is known."""
    others = versions()
    own, commit = others.pop("privsweep") or "(not installed)", _commit()
    source = f", commit {commit}" if commit else ""
    return f"privsweep {own}{source}; {', '.join(f'{name} {one}' for name, one in others.items())}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """The CPU's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@cache
def _commit() -> str | None:
    """The source's commit, where privsweep runs from a checkout; with "+" where it has changes.

    A copy of one without its history, as in a container, is told by ``PRIVSWEEP_COMMIT``, shortened as here.
    """
    here = Path(__file__).parents[1]
    if not (here.parent / ".git").exists():
        return re.sub(r"^([0-9a-f]{12})[0-9a-f]{28}", r"\1", os.environ.get("PRIVSWEEP_COMMIT", "")) or None
    try:
        git = ["git", "-C", str(here)]
        head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+" if dirty.stdout.strip() else "")
