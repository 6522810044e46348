"""What happens within a SLURM job: the end of its time, and several runs on one GPU."""

import os
import signal
import subprocess
from typing import Any

import pytest
import torch

from privsweep.cli.failure import Failure
from privsweep.cli.side_by_side import side_by_side
from privsweep.cli.time_limit import SIGNAL, time_limit


def test_the_end_of_time_reaches_through_whatever_an_attack_catches(monkeypatch: pytest.MonkeyPatch) -> None:
    def theirs(number: int, frame: Any) -> None:
        raise ValueError("Job not requeued because: timed-out too many times.")

    def work() -> None:
        try:
            signal.raise_signal(SIGNAL)
        except Exception:
            pytest.fail("taken for a failure of the attack's own")

    before = signal.signal(SIGNAL, theirs)
    try:
        with pytest.raises(RuntimeError, match="goes on from what is kept"), time_limit():
            work()
        assert signal.getsignal(SIGNAL) is theirs
    finally:
        signal.signal(SIGNAL, before)


@pytest.mark.parametrize(("returned", "ends"), [(-15, SystemExit), (1, RuntimeError)])
def test_a_job_that_is_queued_again_is_no_failure_even_if_slurm_kills_the_messenger(
    returned: int, ends: type[BaseException]
) -> None:
    def theirs(number: int, frame: Any) -> None:
        raise subprocess.CalledProcessError(returned, "scontrol requeue")

    before = signal.signal(SIGNAL, theirs)
    try:
        with pytest.raises(ends), time_limit():
            signal.raise_signal(SIGNAL)
    finally:
        signal.signal(SIGNAL, before)


def test_runs_side_by_side_have_a_process_each_and_a_dead_one_is_told() -> None:
    def work(number: int) -> Any:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number, os.getpid(), torch.get_num_threads()

    first, dead, last = side_by_side(work, [(0,), (1,), (2,)], threads=2)
    assert (first[0], last[0], first[2]) == (0, 2, 2)
    assert len({os.getpid(), first[1], last[1]}) == 3
    assert dead == Failure("its process died (exit code -9)")
