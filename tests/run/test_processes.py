"""A process is known by its number and by when it began."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from privsweep.run.processes import began, process_lives


def test_another_process_of_the_same_number_is_not_the_one_that_noted_it() -> None:
    own = began(os.getpid())
    assert process_lives(os.getpid(), own)
    assert process_lives(os.getpid(), None)
    assert own is None or not process_lives(os.getpid(), f"{own}0")


def test_what_has_ended_does_not_live_though_nobody_has_asked_how() -> None:
    child = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    begun = began(child.pid)
    assert process_lives(child.pid, begun)
    child.kill()
    deadline = time.monotonic() + 10
    while process_lives(child.pid, begun) and time.monotonic() < deadline and sys.platform == "linux":
        time.sleep(0.01)
    assert sys.platform != "linux" or not process_lives(child.pid, begun)
    child.communicate()
    assert not process_lives(child.pid, begun)
