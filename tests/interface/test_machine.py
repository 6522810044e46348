"""What a container leaves of the machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from privsweep.interface import machine
from privsweep.interface.machine import GIB, enough_gib, memory, processors

Limited = Callable[[str, str, str], None]


@pytest.fixture
def limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limited:
    """Writes a file of a control group, of one two levels below the root to which the process belongs."""
    (tmp_path / "own").write_text("1:cpu:/\n0::/pod/container\n")
    (tmp_path / "groups" / "pod" / "container").mkdir(parents=True)
    monkeypatch.setattr(machine, "_OWN", tmp_path / "own")
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)

    def write(group: str, name: str, text: str) -> None:
        (tmp_path / "groups" / group / name).write_text(text)

    return write


def test_without_limits_all_of_it_counts(limited: Limited) -> None:
    whole = memory()
    limited("pod", "cpu.max", "max 100000\n")
    limited("pod", "memory.max", "max\n")
    assert (processors(), memory()) == (8, whole)
    assert whole > GIB / 4


@pytest.mark.parametrize("group", ["pod", "pod/container"])
def test_the_smallest_limit_on_the_way_to_the_root_counts(group: str, limited: Limited) -> None:
    limited(group, "cpu.max", "250000 100000\n")
    limited(group, "memory.max", "104857600\n")
    assert (processors(), memory()) == (2, 104_857_600)
    limited("pod", "cpu.max", "50000 100000\n")
    assert processors() == 1


@pytest.mark.parametrize(
    ("gib", "told"),
    [(4.31e-6, "4.4e-06"), (0.004301, "0.0044"), (1.0, "1"), (9.91, "10"), (119.2, "120"), (7011, "7100")],
)
def test_the_memory_that_is_enough_is_told_in_two_digits_however_little_it_is(gib: float, told: str) -> None:
    assert enough_gib(gib * GIB) == told
    assert float(told) >= gib
