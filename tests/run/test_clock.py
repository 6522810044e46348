"""What the seconds of a record are of."""

from __future__ import annotations

import sys
import time

import pytest
import torch

from privsweep.interface import first_optimizer
from privsweep.interface.training import Optimizer
from privsweep.run.run import Clock


def test_what_the_first_optimiser_imports_is_no_part_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def slow(name: str) -> None:
        now[0] += 100
        monkeypatch.setitem(sys.modules, name, first_optimizer)

    def work() -> None:
        Optimizer("sgd", 0.1, 0.0).make([torch.zeros(1, requires_grad=True)])
        now[0] += 1

    monkeypatch.setattr(first_optimizer, "_IMPORTED", "slow")
    monkeypatch.setattr(first_optimizer, "import_module", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    clock = Clock()
    for name in ("train", "prepare"):
        with clock(name):
            work()
    assert clock.seconds == {"import": 100, "train": 1, "prepare": 1}
