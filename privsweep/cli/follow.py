"""How to follow, show and stop a sweep: commands to type."""

from __future__ import annotations

import shlex
from pathlib import Path

from privsweep.store.sweeps import Sweep


def hints(sweep: Sweep, output_dir: Path) -> list[str]:
    """One line each; not yet fit to be printed."""
    where = [] if str(output_dir) == "outputs" else [f"output_dir={output_dir}"]
    lines = [f"follow it: {_line('privsweep-status', sweep.table, *where)}"]
    if sweep.table:
        own = ["--config-dir", sweep.config_dir] if sweep.config_dir else []
        lines.append(f"what there is so far: {_line('privsweep-report', sweep.table, *sweep.overrides, *where, *own)}")
    jobs = sorted({cell.job.partition("_")[0] for cell in sweep.cells if cell.job}, key=int)
    if jobs:
        lines.append(f"stop it: {_line('scancel', *jobs)}")
    return lines


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words if word)
