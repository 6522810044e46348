"""What has become of the cells of a sweep, told from the output folder, and from SLURM where it can be asked."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from privsweep.cli import cluster
from privsweep.run.heartbeat import Beat, beats
from privsweep.run.processes import process_lives
from privsweep.store import sweeps
from privsweep.store.atomic import read_json
from privsweep.store.sweeps import Cell, Sweep

State = Literal["failed", "stopped", "running", "queued", "not run", "done"]
ORDER: tuple[State, ...] = ("failed", "stopped", "running", "queued", "not run", "done")
_SUBMITIT = re.compile(r"(\[[^]]*\])?\[?submitit\b")
_TAIL = 20_000  # bytes of a log in which its last words are looked for


@dataclass(frozen=True)
class CellState:
    """What has become of one cell."""

    cell: Cell
    state: State
    detail: str = ""  # in one line, not yet fit to be printed
    log: Path | None = None

    @property
    def over(self) -> bool:
        return self.state in ("failed", "stopped", "not run", "done")


class Observer:
    """Looks at an output folder once; SLURM is asked once, and only where that matters.

    ``over``: the sweep that it is asked about has ended, whatever process lives.
    """

    def __init__(self, output_dir: Path, over: bool = False):
        self.output_dir, self.over = output_dir, over
        self.beats = beats(output_dir)
        self._live: dict[str, dict[str, tuple[str, str]] | None] = {}

    def states(self, sweep: Sweep, path: Path | None = None) -> list[CellState]:
        """Those of all cells; ``path`` is the sweep's file, if it has one."""
        found = [self._state(cell, sweep, path) for cell in sweep.cells]
        lost = [s.cell.job for s in found if s.state == "stopped" and s.cell.job and not s.detail]
        ends = cluster.ended(lost) if lost else {}
        return [self._explained(s, sweep, ends) for s in found]

    def left(self, sweep: Sweep, path: Path) -> list[Cell]:
        """Those of a sweep's cells that are running or will be."""
        return [cell for cell in sweep.cells if not self._state(cell, sweep, path).over]

    def under_way(self, sweep: Sweep) -> dict[str, Cell]:
        """The cells that a job of this user is doing, or will do, whatever sweep submitted it; by signature.

        Where SLURM gives no answer these are all that may be.
        """
        live = self._of_user(sweep.user)
        submitted = [*sweeps.submitted(self.output_dir).values()]
        if live is not None:  # one that is completing ends, and will do nothing more
            submitted = [c for c in submitted if live.get(str(c.job), ("COMPLETING",))[0] != "COMPLETING"]
        found = self.states(sweep.model_copy(update={"cells": submitted}))
        return {s.cell.signature: s.cell for s in found if s.state in ("running", "queued")}

    def answered(self, sweep: Sweep) -> bool:
        """Whether SLURM says which jobs this user has."""
        return self._of_user(sweep.user) is not None

    def _state(self, cell: Cell, sweep: Sweep, path: Path | None) -> CellState:
        beat, lives = self.beats.get(cell.signature, (None, False))
        if beat and lives:
            return CellState(cell, "running", beat.told, self._log(cell, sweep))
        now = sweeps.stamps(self.output_dir, cell.signature)
        if now[0] is not None and (cell.number is None or now[0] != cell.before[0]):
            return CellState(cell, "done")  # also where a run that was forced has failed since: what is stored counts
        if now[1] is not None and (cell.number is None or now[1] != cell.before[1]):
            return CellState(cell, "failed", _error(self.output_dir, cell), self._log(cell, sweep))
        if cell.number is None:
            return CellState(cell, "not run", "its record is gone")
        if cell.job:
            return self._in_slurm(cell, cell.job, sweep, beat)
        if beat:
            return CellState(cell, "stopped", f"its process on {beat.host} is gone", self._log(cell, sweep))
        if path and sweeps.stopped(path):
            return CellState(cell, "not run", sweeps.LEFT_OUT)
        if not self.over and self.goes_on(sweep):
            return CellState(cell, "queued", f"waits for its turn on {sweep.host}")
        return CellState(cell, "not run", log=self._log(cell, sweep))

    def _in_slurm(self, cell: Cell, job: str, sweep: Sweep, beat: Beat | None) -> CellState:
        live = self._of_user(sweep.user)
        if live is None and beat:
            return CellState(cell, "stopped", f"its process on {beat.host} is gone", self._log(cell, sweep))
        if live is None:
            return CellState(cell, "queued", f"job {job}; SLURM cannot be asked from here, so it may have ended")
        state, reason = live.get(job, ("", ""))
        if state in ("PENDING", "REQUEUED", "SUSPENDED"):
            again = ", goes on where it was cut off" if beat or self._partial(cell) else ""
            return CellState(cell, "queued", f"job {job}: {state.lower()} ({reason}){again}")
        if state:
            now = state.lower()
            if state == "RUNNING":  # the run itself says no more
                now = "running, but nothing is heard of this run" if beat else "starting"
            return CellState(cell, "running", f"job {job}: {now}", self._log(cell, sweep))
        return CellState(cell, "stopped", log=self._log(cell, sweep))

    def _explained(self, found: CellState, sweep: Sweep, ends: Mapping[str, str]) -> CellState:
        """Why a cell did not come to its end, where only its logs or SLURM's accounting know."""
        if found.state not in ("stopped", "not run") or found.detail:
            return found
        cell = found.cell
        how = f": {ends[cell.job].lower()}" if cell.job and cell.job in ends else " without a result"
        own = f"run {Path(cell.logs or str(cell.number)).name}: "  # with which its job tells of it
        words = [f"job {cell.job} ended{how}" if cell.job else "", _last_words(self._logs(cell, sweep), own)]
        return CellState(cell, found.state, "; ".join(w for w in words if w), found.log)

    def _of_user(self, user: str) -> dict[str, tuple[str, str]] | None:
        if user not in self._live:
            self._live[user] = cluster.waiting_and_running(user)
        return self._live[user]

    def _partial(self, cell: Cell) -> bool:
        return any((self.output_dir / "partial" / cell.signature).glob("[!.]*"))

    def goes_on(self, sweep: Sweep) -> bool:
        """Whether its command, or without SLURM any of its runs, is at work."""
        if sweep.host == socket.gethostname():
            return process_lives(sweep.pid, sweep.began)
        return any(b.host == sweep.host and lives for b, lives in self.beats.values())

    def _log(self, cell: Cell, sweep: Sweep) -> Path | None:
        """The log of its job: that of the run itself, or where that has none, what the job printed."""
        return next(iter(self._logs(cell, sweep)), None)

    def _logs(self, cell: Cell, sweep: Sweep) -> list[Path]:
        own = self.output_dir / (cell.logs or f"{sweep.folder}/{cell.number}")
        places = [own / "privsweep.log"]
        if cell.job:
            places.append(own.parent / ".submitit" / cell.job / f"{cell.job}_0_log.err")
        return [path for path in places if path.is_file() and path.stat().st_size]

    @property
    def living(self) -> list[Beat]:
        """Of the runs that are under way, whatever started them."""
        return [beat for beat, lives in self.beats.values() if lives]


def count(states: Iterable[CellState]) -> dict[State, int]:
    """How many cells there are of each state that occurs, in order."""
    found = [s.state for s in states]
    return {state: found.count(state) for state in ORDER if state in found}


def _error(output_dir: Path, cell: Cell) -> str:
    """The message of its last failure."""
    try:
        record: Any = read_json(output_dir / "failed" / f"{cell.signature}.json")
        return str(record["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return "no reason was kept"


def _last_words(logs: Sequence[Path], own: str) -> str:
    """The last line that tells of an error: SLURM's first, then one that begins with ``own``; or just the last one."""
    lines = [line for log in logs for line in _tail(log)]
    errors = [line for line in lines if "error" in line.lower()]
    slurms = [line for line in errors if line.startswith("slurmstepd")]
    told = slurms or [line for line in lines if line.startswith(own)] or errors or lines
    return told[-1].removeprefix(own)[-300:] if told else ""


def _tail(log: Path) -> list[str]:
    """The last lines of a log, but for what submitit says of itself."""
    with log.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = file.read(_TAIL).decode(errors="replace").splitlines()
    return [line.strip() for line in lines if line.strip() and not _SUBMITIT.match(line)]
