"""Work that is recorded on a GPU, and runs as it is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from privsweep.interface.replayed import Launching, Replayed, launched, launching

CPU = torch.device("cpu")


@pytest.fixture
def counted() -> Iterator[Launching]:
    with launched(graphs=True) as count:
        yield count


@pytest.fixture
def gpu(counted: Launching) -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no GPU: tests/test_pretend_device.py holds what is recorded to its rules")
    return torch.device("cuda")


class Walk:
    """Adds what it is given to a place that it keeps, and tells the place doubled."""

    def __init__(self, device: torch.device):
        self.at = torch.zeros(3, device=device)
        self.calls = 0

    def __call__(self, step: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        self.at.add_(step)
        return (2 * self.at,)


def test_on_a_cpu_it_is_the_work_itself(counted: Launching) -> None:
    walk = Walk(CPU)
    replayed = Replayed(walk, CPU)
    places = [replayed(torch.full((3,), float(n)))[0] for n in range(6)]
    assert [p[0].item() for p in places] == [0, 2, 6, 12, 20, 30]
    assert walk.calls == 6
    assert counted.in_words() == "eager"


def test_a_run_counts_for_itself() -> None:
    with launched(graphs=True) as outer:
        outer.recorded = 3
        with launched(graphs=False):
            assert launching.in_words() == "eager"
        assert launching.in_words() == "graphs"
        launching.refused = "a copy to the host"
        assert launching.in_words() == "eager: a copy to the host"


def test_a_recording_does_what_the_work_does(gpu: torch.device, counted: Launching) -> None:
    walk = Walk(gpu)
    replayed = Replayed(walk, gpu)
    seen = [replayed(torch.full((3,), float(n), device=gpu))[0].clone() for n in range(8)]
    assert [p[0].item() for p in seen] == [n * (n + 1) for n in range(8)]
    assert walk.calls < 8
    assert counted.in_words() == "graphs"
    replayed(torch.zeros(1, device=gpu)), replayed(torch.ones(3, device=gpu))
    assert walk.at[0].item() == 29


def test_what_cannot_be_recorded_goes_on_as_it_is(gpu: torch.device, counted: Launching) -> None:
    asked = Replayed(lambda t: (t * t.sum().item(),), gpu)
    assert all(asked(torch.ones(2, device=gpu))[0][0].item() == 2 for _ in range(6))
    assert counted.in_words().startswith("eager: ")
