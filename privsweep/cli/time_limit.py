"""The end of a job's time, as SLURM's launcher announces it, reaches through whatever is running."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from privsweep.interface.errors import TimeLimit

SIGNAL = signal.SIGUSR2  # SLURM sends it some minutes before the end


@contextmanager
def time_limit() -> Iterator[None]:
    """Makes a TimeLimit of the error that submitit raises inside the run once a job may not be queued again.

    Where it may, submitit's handler puts it into the queue and ends the process. Leaves the block as a RuntimeError,
    which submitit reports as it does any.
    """
    theirs: Any = signal.getsignal(SIGNAL)

    def ours(number: int, frame: FrameType | None) -> None:
        try:
            theirs(number, frame)
        except subprocess.CalledProcessError as error:
            if error.returncode < 0:  # scontrol had queued the job again, and was killed with it before it could say so
                sys.exit(-1)
            raise TimeLimit("SLURM did not queue the job again; the same command goes on from what is kept") from error
        except Exception as error:
            raise TimeLimit("the job's time is up; the same command goes on from what is kept") from error

    if not callable(theirs):
        yield
        return
    signal.signal(SIGNAL, ours)
    try:
        yield
    except TimeLimit as error:
        raise RuntimeError(str(error)) from error
    finally:
        signal.signal(SIGNAL, theirs)
