"""What SLURM's own commands say; nothing here needs them to be there."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

from privsweep.interface.errors import UserError

_PATIENCE = 20  # seconds for an answer


def require_sbatch() -> None:
    """Raises UserError where no job can be submitted."""
    for command in ("sbatch", "srun"):
        if shutil.which(command) is None:
            raise UserError(f"hydra/launcher: there is no {command} here; submit from a login node of the cluster")


def largest_array() -> int | None:
    """The most tasks that the cluster takes in one job array; None where it does not say."""
    said = re.search(r"^MaxArraySize\s*=\s*(\d+)", _ask("scontrol", "show", "config") or "", re.MULTILINE)
    return max(1, int(said[1])) if said else None


def waiting_and_running(user: str) -> dict[str, tuple[str, str]] | None:
    """The state and the reason of a user's jobs that have not ended, by job id; None where SLURM cannot be asked."""
    said = _ask("squeue", "--noheader", "--array", f"--user={user}", "--format=%i|%T|%r")
    if said is None:
        return None
    rows = (line.strip().split("|", 2) for line in said.splitlines())
    return {row[0]: (row[1], row[2]) for row in rows if len(row) == 3}


def ended(jobs: Iterable[str]) -> dict[str, str]:
    """How jobs ended, such as CANCELLED or TIMEOUT, by job id; those alone of which the accounting knows."""
    wanted = arrays(jobs)
    said = _ask("sacct", "-nPX", "--format=JobID,State", f"--jobs={','.join(wanted)}") if wanted else None
    rows = (line.split("|") for line in (said or "").splitlines())
    return {job: row[1].split()[0] for row in rows if len(row) == 2 and row[1] for job in _tasks(row[0])}


def _tasks(row: str) -> list[str]:
    """The jobs that sacct tells of in one row; those of an array that never began share one, 37_[0-4,6%2]."""
    array, _, rest = row.partition("_[")
    spans = re.findall(r"(\d+)(?:-(\d+))?", rest.partition("%")[0])
    return [f"{array}_{n}" for first, last in spans for n in range(int(first), int(last or first) + 1)] or [row]


def arrays(jobs: Iterable[str]) -> list[str]:
    """Those that jobs belong to."""
    return sorted({job.partition("_")[0] for job in jobs}, key=int)


def cancel_waiting(jobs: Iterable[str]) -> None:
    """Takes jobs that have not begun out of the queue."""
    for array in arrays(jobs):
        _ask("scancel", "--state=PENDING", array)


def _ask(*command: str) -> str | None:
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout
