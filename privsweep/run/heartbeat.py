"""A running run says, every few seconds, that it lives and how far it is: a small file, gone when it ends."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from pydantic import BaseModel, ConfigDict, ValidationError

from privsweep.run.processes import began, process_lives

FOLDER = "running"
EVERY_SECONDS = 4.0
FIRST_SECONDS = 0.5  # runs shorter than this leave no trace
STALE_SECONDS = 90.0  # clocks of two machines may differ, and network disks are seen late


class Beat(BaseModel):
    """What a run says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    signature: str
    title: str
    host: str
    pid: int
    began: str | None = None  # the process, see processes.py
    job: str | None  # of SLURM
    since: float  # seconds since 1970
    phase: str
    done: int
    total: int  # 0: not known

    @property
    def told(self) -> str:
        """How far it is, since when and where."""
        far = f" {self.done}/{self.total}" if self.total else ""
        return f"{self.phase}{far}, for {self.lasting}, on {self.where}"

    @property
    def lasting(self) -> str:
        """How long it has been running, such as 3 min."""
        return _span(time.time() - self.since)

    @property
    def where(self) -> str:
        """The machine, and the job of SLURM."""
        return f"{self.host}, job {self.job}" if self.job else self.host


class Heartbeat:
    """Writes ``<output_dir>/running/<signature>.json`` from a thread of its own while its block runs."""

    def __init__(self, output_dir: Path, sign: str, title: str):
        self._path = output_dir / FOLDER / f"{sign}.json"
        self._beat = Beat(
            signature=sign, title=title, host=socket.gethostname(), pid=os.getpid(), began=began(os.getpid()),
            job=slurm_job(os.environ), since=time.time(), phase="starting", done=0, total=0,
        )  # fmt: skip
        self._told = ("starting", 0, 0)
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, name="heartbeat", daemon=True)

    def tell(self, phase: str, done: int, total: int) -> None:
        """How far the run is, where ``total`` is not 0; written at the next beat."""
        self._told = (phase, done, total)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        pause = FIRST_SECONDS
        while not self._end.wait(pause):
            pause = EVERY_SECONDS
            draft = self._path.with_name(f".{self._path.name}.{self._beat.pid}")
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                told = dict(zip(("phase", "done", "total"), self._told, strict=True))
                draft.write_text(self._beat.model_copy(update=told).model_dump_json() + "\n", encoding="utf-8")
                draft.replace(self._path)
            except OSError:  # a full disk: the run itself will say so
                draft.unlink(missing_ok=True)


def slurm_job(environment: Mapping[str, str]) -> str | None:
    """The job that this process belongs to, as squeue names it; None outside of SLURM."""
    array, task = environment.get("SLURM_ARRAY_JOB_ID"), environment.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else environment.get("SLURM_JOB_ID")


def beats(output_dir: Path) -> dict[str, tuple[Beat, bool]]:
    """What the runs of an output folder say, by signature, each with whether it lives."""
    found = {}
    for path in sorted((output_dir / FOLDER).glob("[!.]*.json")):
        try:
            beat = Beat.model_validate(json.loads(path.read_text(encoding="utf-8")))
            age = time.time() - path.stat().st_mtime
        except (OSError, ValueError, ValidationError):
            continue
        gone = beat.host == socket.gethostname() and not process_lives(beat.pid, beat.began)
        found[path.stem] = beat, age < STALE_SECONDS and not gone
    return found


def _span(seconds: float) -> str:
    """A length of time to two digits or so."""
    minutes = int(max(seconds, 0) // 60)
    if minutes < 2:
        return f"{max(seconds, 0):.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
