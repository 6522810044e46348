"""Several runs of one job at once, each in a process of its own, on the GPU that the job was given."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn

import cloudpickle

from privsweep.cli.jobs import Failure
from privsweep.cli.time_limit import SIGNAL
from privsweep.interface.errors import TimeLimit

END = signal.SIGUSR1  # the job tells its processes that its time is up
GRACE_SECONDS = 20.0  # in which they note it


def side_by_side(work: Callable[..., Any], calls: Sequence[tuple[Any, ...]], threads: int) -> list[Any]:
    """``work(*call)`` for all calls at once, ``threads`` CPU threads each; a Failure for a process that died.

    Whatever ends this process's wait, such as a TimeLimit, ends the others.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    start = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    made = []
    for call in calls:
        ours, theirs = start.Pipe(duplex=False)
        process = start.Process(target=_child, args=(cloudpickle.dumps((work, call)), theirs))
        process.start()
        theirs.close()
        made.append((process, ours))
    try:
        return [_answer(process, ours) for process, ours in made]
    except TimeLimit:
        for process, _ in made:
            if process.is_alive() and process.pid:
                os.kill(process.pid, END)
        for process, _ in made:
            process.join(GRACE_SECONDS)
        raise
    finally:
        for process, _ in made:
            process.kill()


def _answer(process: Any, ours: Connection) -> Any:
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        return Failure(f"its process died (exit code {process.exitcode})")
    process.join()
    return answer


def _child(work: bytes, theirs: Connection) -> None:
    """``work`` comes from the parent process, through memory."""
    signal.signal(SIGNAL, signal.SIG_IGN)  # the parent's to handle
    signal.signal(END, _end)
    call, arguments = pickle.loads(work)
    theirs.send(call(*arguments))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeLimit("the job's time is up; the same command goes on from what is kept")
