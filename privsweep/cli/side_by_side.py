"""Several runs of one command at once, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from types import FrameType
from typing import Any, NoReturn

import torch

from privsweep.cli.failure import Failure
from privsweep.cli.interrupts import TERMINATED, terminable
from privsweep.cli.time_limit import SIGNAL
from privsweep.interface.errors import TimeLimit, UserError

END = signal.SIGUSR1  # the job tells its processes that its time is up
GRACE_SECONDS = 20.0  # in which they note it
LOOK_SECONDS = 0.5


def side_by_side(
    work: Callable[..., Any],
    calls: Sequence[tuple[Any, ...]],
    threads: int,
    *,
    context: BaseContext | None = None,
    at_once: int | None = None,
    came: Callable[[Any], None] = lambda answer: None,
    look: Callable[[Mapping[int, int]], None] = lambda running: None,
) -> list[Any]:
    """``work(*call)`` for all calls, ``threads`` CPU threads each; a Failure for a process that died.

    context: how processes begin, by default as forks of this one, which must not have used CUDA then. at_once: all by
    default. came: is given every answer as it comes. look: is called now and then, with the numbers of the calls that
    are in work and their processes' ids. Whatever ends its wait, such as a TimeLimit or Ctrl-C, ends the others;
    raises the UserError of a call that did.
    """
    context = context or multiprocessing.get_context("fork")
    answers: list[Any] = [None] * len(calls)
    left, running = list(enumerate(calls))[::-1], dict[Any, tuple[int, Any]]()
    try:
        while left or running:
            while left and len(running) < (at_once or len(calls)):
                number, call = left.pop()
                ours, process = _begun(context, work, call, threads)
                running[ours] = number, process
            for ready in wait(list(running), LOOK_SECONDS):
                number, process = running.pop(ready)
                answers[number] = _answer(process, ready)
                if isinstance(answers[number], UserError):
                    raise answers[number]
                came(answers[number])
            look({number: process.pid for number, process in running.values()})
    except BaseException as error:
        for _, process in running.values():
            if process.is_alive() and process.pid:
                os.kill(process.pid, END if isinstance(error, TimeLimit) else signal.SIGTERM)
        for _, process in running.values():
            process.join(GRACE_SECONDS)
        raise
    finally:
        for _, process in running.values():
            process.kill()
    return answers


def _begun(context: Any, work: Callable[..., Any], call: Sequence[Any], threads: int) -> tuple[Any, Any]:
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(work, call, threads, theirs))
    with warnings.catch_warnings():  # that libraries have started threads: they wait, and hold nothing
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    return ours, process


def _answer(process: Any, ours: Any) -> Any:
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        return Failure(f"its process died (exit code {process.exitcode})")
    process.join()
    return answer


def _child(work: Callable[..., Any], call: Sequence[Any], threads: int, theirs: Connection) -> None:
    signal.signal(SIGNAL, signal.SIG_IGN)  # the parent's to handle, as is Ctrl-C
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(END, _end)
    threading.Thread(target=_follow, daemon=True).start()
    torch.set_num_threads(threads)
    try:
        with terminable():
            theirs.send(work(*call))
    except UserError as error:
        theirs.send(error)
    except KeyboardInterrupt:
        os._exit(TERMINATED)


def _follow() -> None:
    """Ends this process with the one that began it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise TimeLimit("the job's time is up; the same command goes on from what is kept")
