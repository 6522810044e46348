"""What a sweep notes when it starts, so that its cells can be followed from anywhere that sees the output folder.

One small file a sweep, ``<output_dir>/sweeps/<name of the sweep's log folder>.json``; no PyTorch is needed to read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from privsweep.store.atomic import read_json, write_json

FOLDER = "sweeps"
LEFT_OUT = "left out after a failure (fail_fast=true, or no room for results: make room, and repeat the command)"
Stamps = tuple[int | None, int | None]  # see ``stamps``
JobId = Annotated[str, Field(pattern=r"^\d{1,18}(_\d{1,9})?$")]  # it becomes an argument of SLURM's commands


class _Noted(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Cell(_Noted):
    """One run of a sweep."""

    name: str
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]
    number: int | None  # of its job, and of the job's log folder; None: it was stored before
    before: Stamps  # before the sweep
    job: JobId | None = None  # of SLURM
    logs: str | None = None  # the folder of the job's log, where another sweep submitted it; as a sweep's ``folder``


class Sweep(_Noted):
    """A sweep or a table, as it was started."""

    table: str  # such as zen/table1; empty for an ad hoc sweep
    scale: str
    overrides: list[str]  # as typed, without the experiment and Hydra's own part
    config_dir: str | None
    started: str  # ISO 8601
    launcher: str
    folder: str  # of its logs; relative to the output folder where it lies in it
    host: str  # where it was started
    pid: int
    began: str | None = None  # the process, in words that tell it from others of this number
    user: Annotated[str, Field(pattern=r"^\w[\w.@-]*$")]
    cells: list[Cell]
    to_come: int = 0  # trials of a search that it has yet to choose
    command: list[str] = []  # its words; empty where the note is older than this
    cwd: str = ""  # where it was typed


def place(output_dir: Path, sweep_dir: str) -> Path:
    """The file of the sweep that logs into ``sweep_dir``; its jobs find it in this way, too."""
    return output_dir / FOLDER / f"{Path(sweep_dir).name}.json"


def write(path: Path, sweep: Sweep) -> None:
    write_json(path, sweep.model_dump(mode="json"))


def read(path: Path) -> Sweep | None:
    """None where there is none, or none that can be understood."""
    try:
        return Sweep.model_validate(read_json(path))
    except (OSError, ValueError, ValidationError):
        return None


def every(output_dir: Path) -> Iterator[tuple[Path, Sweep]]:
    """Those of an output folder, the newest first."""
    for path in sorted((output_dir / FOLDER).glob("*.json"), reverse=True):
        if (sweep := read(path)) is not None:
            yield path, sweep


def add(path: Path, cells: Iterable[Cell], chosen: int) -> None:
    """Notes further cells of a search, of ``chosen`` trials; a run that it chooses again counts once."""
    if (sweep := read(path)) is not None:
        last = {cell.signature: cell for cell in (*sweep.cells, *cells)}
        write(path, sweep.model_copy(update={"cells": [*last.values()], "to_come": max(0, sweep.to_come - chosen)}))


def note_jobs(path: Path, jobs: Mapping[int, str], logs: Mapping[int, str | None] | None = None) -> None:
    """Notes the SLURM jobs of cells, by their numbers; ``logs``: of those that another sweep submitted."""
    if (sweep := read(path)) is None:
        return
    cells = [
        c
        if c.number is None or c.number not in jobs
        else c.model_copy(update={"job": jobs[c.number], "logs": (logs or {}).get(c.number)})
        for c in sweep.cells
    ]
    write(path, sweep.model_copy(update={"cells": cells}))


def submitted(output_dir: Path) -> dict[str, Cell]:
    """The cells that have had a job, by signature, each with its last one and where that logs."""
    return {
        cell.signature: cell.model_copy(update={"logs": cell.logs or f"{sweep.folder}/{cell.number}"})
        for _, sweep in reversed(list(every(output_dir)))
        for cell in sweep.cells
        if cell.job
    }


def stop(path: Path) -> None:
    """Tells the jobs of a sweep that have not begun to leave it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".stop").touch()


def stopped(path: Path) -> bool:
    return path.with_suffix(".stop").exists()


def before(path: Path, sign: str) -> Stamps | None:
    """What a sweep noted of a run when it started."""
    sweep = read(path)
    return next((cell.before for cell in sweep.cells if cell.signature == sign), None) if sweep else None


def stamps(output_dir: Path, sign: str) -> Stamps:
    """When the record and the last failure of a run were written, in nanoseconds; None where there is none."""
    record, failure = (output_dir / "runs" / sign / "record.json", output_dir / "failed" / f"{sign}.json")
    return _stamp(record), _stamp(failure)


def _stamp(path: Path) -> int | None:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return None
