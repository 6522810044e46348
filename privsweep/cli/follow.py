"""How to follow, show and stop a sweep: commands to type."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from pathlib import Path

from privsweep.cli.cluster import arrays
from privsweep.cli.same_command import HIDDEN
from privsweep.interface.keys import finding
from privsweep.store.sweeps import Sweep


def hints(sweep: Sweep, output_dir: Path, jobs: Iterable[str]) -> list[str]:
    """One line each; not yet fit to be printed. ``jobs``: of SLURM, that have not ended."""
    where = [] if str(output_dir) == "outputs" else [f"output_dir={output_dir}"]
    lines = [f"follow it: {_line('privsweep-status', '--follow', sweep.table, *where)}"]
    if sweep.table:
        own = finding(sweep.config_dir)
        lines.append(f"what there is so far: {_line('privsweep-report', sweep.table, *sweep.overrides, *where, *own)}")
    if found := arrays(jobs):
        lines.append(f"stop it: {_line('scancel', *found)}")
    return lines


def goes_on(sweep: Sweep) -> list[str]:
    """The command that does what is left of a sweep that is over, where it was noted; not yet fit to be printed."""
    if not sweep.command:
        return []
    here = os.path.realpath(sweep.cwd) == os.path.realpath(os.curdir)
    lead = "" if here else f"{_line('cd', sweep.cwd)} && "
    lines = [f"go on with it: {lead}{_line(*sweep.command)}"]
    if hidden := [word.partition("=")[0] for word in sweep.command if word.endswith(f"={HIDDEN}")]:
        lines.append(f"in place of {HIDDEN} what you gave {', '.join(hidden)}: it may be a secret, and is not kept")
    return lines


def _line(*words: str) -> str:
    return " ".join(shlex.quote(word) for word in words if word)
