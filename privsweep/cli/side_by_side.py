"""Several runs of one job at once, each in a process of its own, on the GPU that the job was given."""

from __future__ import annotations

import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from types import FrameType
from typing import Any, NoReturn

import torch

from privsweep.cli.failure import Failure
from privsweep.cli.time_limit import SIGNAL
from privsweep.interface.errors import TimeLimit

END = signal.SIGUSR1  # the job tells its processes that its time is up
GRACE_SECONDS = 20.0  # in which they note it


def side_by_side(work: Callable[..., Any], calls: Sequence[tuple[Any, ...]], threads: int) -> list[Any]:
    """``work(*call)`` for all calls at once, ``threads`` CPU threads each; a Failure for a process that died.

    This process must not have used CUDA, which does not survive a fork. Whatever ends its wait, such as a TimeLimit,
    ends the others.
    """
    fork = multiprocessing.get_context("fork")
    made = []
    for call in calls:
        ours, theirs = fork.Pipe(duplex=False)
        process = fork.Process(target=_child, args=(work, call, threads, theirs))
        with warnings.catch_warnings():  # that libraries have started threads: they wait, and hold nothing
            warnings.simplefilter("ignore", DeprecationWarning)
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


def _child(work: Callable[..., Any], call: Sequence[Any], threads: int, theirs: Connection) -> None:
    signal.signal(SIGNAL, signal.SIG_IGN)  # the parent's to handle
    signal.signal(END, _end)
    torch.set_num_threads(threads)
    theirs.send(work(*call))


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeLimit("the job's time is up; the same command goes on from what is kept")
