"""Work that is recorded on a GPU, and runs as it is elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from pretend_device import pretending
from torch import Tensor

from privsweep.interface.draws import Draws
from privsweep.interface.randomness import Rng
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


def drawing(like: Tensor, rngs: Sequence[Rng]) -> tuple[Tensor, ...]:
    """Two numbers from one generator, and one of every stream from another."""
    first = rngs[0].child("pair").generator(like.device)
    pair = torch.cat([torch.randn(1, generator=first, device=like.device) for _ in range(2)])
    each = [torch.rand(1, generator=r.child("own", 3).generator(like.device), device=like.device) for r in rngs]
    return (torch.cat([pair, *each]),)


def test_streams_draw_under_notice_what_they_draw_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    rngs = [Rng(1).child("step", n) for n in range(2)]
    with pretending(monkeypatch):
        there = torch.zeros(1, device="cuda")
        replayed = Replayed(drawing, there.device)
        [plain] = drawing(there, rngs=rngs)
        found, draws = replayed.noticed([there], rngs)
        assert torch.equal(found[0], plain)
        assert not draws.on_host
        assert draws.asked == [(0, ("pair",)), (0, ("own", 3)), (1, ("own", 3))]
        later = [rng.child("later") for rng in rngs]
        fixed = Draws([(purpose, Rng(0).generator("cuda")) for purpose in draws.asked])
        fixed.seed(later)
        assert torch.equal(drawing(there, rngs=fixed.streams(rngs))[0], drawing(there, rngs=later)[0])
        with pytest.raises(RuntimeError, match="the same numbers"):
            fixed.streams(rngs)[0].child("more").generator("cuda")


@pytest.mark.parametrize("draw", [Rng.generator, lambda r: r.key(), lambda r: r.permutation(3), lambda r: r.normal(2)])
def test_numbers_of_the_host_are_noticed(draw: Callable[[Rng], object]) -> None:
    draws = Draws()
    draw(draws.streams([Rng(0)])[0].child("order"))
    assert draws.on_host


def test_a_recording_draws_what_the_work_draws(gpu: torch.device, counted: Launching) -> None:
    replayed, like = Replayed(drawing, gpu), torch.zeros(1, device=gpu)
    for n in range(8):
        rngs = [Rng(n), Rng(7).child(n)]
        assert torch.equal(replayed(like, rngs=rngs)[0], drawing(like, rngs=rngs)[0])
    assert counted.in_words() == "graphs"


def test_what_draws_on_the_host_is_not_recorded(gpu: torch.device, counted: Launching) -> None:
    replayed = Replayed(lambda t, rngs: (t + rngs[0].normal(2).to(t.device),), gpu)
    seen = [replayed(torch.zeros(2, device=gpu), rngs=[Rng(n)])[0] for n in range(6)]
    assert all(torch.equal(t.cpu(), Rng(n).normal(2)) for n, t in enumerate(seen))
    assert counted.in_words() == "eager: it draws numbers on the host"
