"""Long work in chunks, cut off half-way."""

from pathlib import Path

import pytest
import torch
from tiny import Bench

from privsweep.interface.data import Tensors
from privsweep.interface.memory import out_of_memory
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store

ROWS = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).double()
START = {"count": torch.zeros(()).double(), "sum": torch.zeros(3).double(), "square": torch.zeros(3).double()}


def moments(state: Tensors, chunk: Tensors) -> Tensors:
    w = chunk["w"]
    sums = {"count": torch.tensor(len(w)), "sum": w.sum(0), "square": w.square().sum(0)}
    return {name: state[name] + value for name, value in sums.items()}


class Maker:
    """Rows of a chunk; the process is killed before the one that begins at ``killed_at``."""

    def __init__(self, killed_at: int | None = None):
        self.killed_at = killed_at
        self.made: list[tuple[int, int]] = []

    def __call__(self, part: slice) -> Tensors:
        if part.start == self.killed_at:
            raise KeyboardInterrupt
        self.made.append((part.start, part.stop))
        return {"w": ROWS[part]}


def bench(folder: Path) -> Workbench:
    return Workbench(torch.device("cpu"), Store(folder), "abc")


def test_a_stream_comes_to_what_reducing_all_at_once_does(tmp_path: Path) -> None:
    make = Maker()
    state = bench(tmp_path).stream("statistics", "weights", 10, 4, make, moments, START)
    assert make.made == [(0, 4), (4, 8), (8, 10)]
    whole = moments(START, {"w": ROWS})
    assert all(torch.allclose(value, whole[name], rtol=1e-12) for name, value in state.items())
    tiny = Bench().stream("statistics", "weights", 10, 4, Maker(), moments, START)
    assert all(torch.equal(value, tiny[name]) for name, value in state.items())


def test_a_killed_stream_goes_on_behind_its_last_chunk(tmp_path: Path) -> None:
    """Also with chunks of another size, where there is less memory than before."""
    first = bench(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        first.stream("statistics", "weights", 10, 4, Maker(killed_at=8), moments, START)
    again, later = Maker(), bench(tmp_path)
    state = later.stream("statistics", "weights", 10, 1, again, moments, START)
    assert again.made == [(8, 9), (9, 10)]
    assert later.earlier >= 0
    unbroken = bench(tmp_path / "other").stream("statistics", "weights", 10, 4, Maker(), moments, START)
    assert all(torch.allclose(value, unbroken[name], rtol=1e-12) for name, value in state.items())
    none = Maker()
    finished = later.stream("statistics", "weights", 10, 4, none, moments, START)
    assert not none.made
    assert all(torch.equal(value, state[name]) for name, value in finished.items())


def test_another_stream_and_a_corrupt_file_begin_anew(tmp_path: Path) -> None:
    def made(key: str) -> list[tuple[int, int]]:
        make = Maker()
        bench(tmp_path).stream("statistics", key, 10, 5, make, moments, START)
        return make.made

    assert made("weights") == made("others") == [(0, 5), (5, 10)]
    for path in tmp_path.rglob("*.safetensors"):
        path.write_bytes(b"cut off")
    assert made("weights") == [(0, 5), (5, 10)]


def test_a_state_may_hold_views_of_one_tensor(tmp_path: Path) -> None:
    def halves(state: Tensors, chunk: Tensors) -> Tensors:
        both = state["left"] + chunk["w"].sum(0)
        return {"left": both, "right": both.flip(0)[:2], "same": both}

    state = bench(tmp_path).stream("statistics", "weights", 10, 5, Maker(), halves, {"left": torch.zeros(3).double()})
    assert torch.equal(state["left"], state["same"])


def test_a_killed_run_of_chunks_takes_over_those_that_are_finished(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path).chunks("rows", "w", 10, 4, Maker(killed_at=4))
    again = Maker()
    assert torch.equal(bench(tmp_path).chunks("rows", "w", 10, 4, again)["w"], ROWS)
    assert again.made == [(4, 8), (8, 10)]


def test_what_was_begun_on_another_kind_of_device_begins_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Or else a system begun on a GPU would be filed as one of the CPU."""
    begun = Workbench(torch.device("meta"), Store(tmp_path), "abc")
    begun.keep("training", lambda: ({"w": ROWS}, {}))
    with pytest.raises(KeyboardInterrupt):
        begun.chunks("rows", "w", 10, 4, Maker(killed_at=4))
    maker = Maker()
    assert bench(tmp_path).kept("training") is None
    assert torch.equal(bench(tmp_path).chunks("rows", "w", 10, 4, maker)["w"], ROWS)
    assert maker.made == [(0, 4), (4, 8), (8, 10)]
    assert capsys.readouterr().err.count("of something else; set aside") == 2


def test_rows_are_kept_for_every_run_and_only_added_to(tmp_path: Path) -> None:
    first = Maker()
    assert torch.equal(bench(tmp_path).rows({"of": "shadows"}, 5, 2, first)["w"], ROWS[:5])
    assert first.made == [(0, 2), (2, 4), (4, 5)]
    more, other = Maker(), Workbench(torch.device("cpu"), Store(tmp_path), "another run")
    assert torch.equal(other.rows({"of": "shadows"}, 8, 2, more)["w"], ROWS[:8])
    assert more.made == [(5, 7), (7, 8)]
    assert torch.equal(other.rows({"of": "shadows"}, 3, 2, Maker(killed_at=0))["w"], ROWS[:3])
    assert torch.equal(Bench().rows({}, 5, 2, Maker())["w"], ROWS[:5])


def test_rows_that_were_rounded_are_shared_with_their_like_alone(tmp_path: Path) -> None:
    def rounded() -> Workbench:
        return Workbench(torch.device("cpu"), Store(tmp_path), "abc", rounding={"precision": "tf32"})

    bench(tmp_path).rows({"of": "shadows"}, 5, 5, Maker())
    maker = Maker()
    for _ in range(2):
        rounded().rows({"of": "shadows"}, 5, 5, maker)
    assert maker.made == [(0, 5)]


def test_killed_rows_go_on_behind_their_last_slice(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench(tmp_path).rows({}, 10, 4, Maker(killed_at=8))
    again = Maker()
    assert torch.equal(bench(tmp_path).rows({}, 10, 4, again)["w"], ROWS)
    assert again.made == [(8, 10)]


class Small(Maker):
    """A device that holds ``room`` rows at once."""

    def __init__(self, error: Exception, room: int = 2):
        super().__init__()
        self.error, self.room = error, room

    def __call__(self, part: slice) -> Tensors:
        if part.stop - part.start > self.room:
            raise self.error
        return super().__call__(part)


FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")


@pytest.mark.parametrize(
    "error",
    [FULL, RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"),
     RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), MemoryError()],
)  # fmt: skip
def test_whoever_says_it_memory_ran_out(error: Exception) -> None:
    assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("shapes do not match"))


def test_where_memory_runs_out_chunks_are_halved_and_the_rest_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, make = bench(tmp_path), Small(FULL)
    assert torch.equal(one.chunks("rows", "w", 10, 8, make)["w"], ROWS)
    assert make.made == [(0, 2), (2, 4), (4, 6), (6, 8), (8, 10)]
    assert one.sizes == {"rows": 2}
    assert "8 at once do not fit the memory; going on with 4" in capsys.readouterr().err
    assert torch.equal(bench(tmp_path).chunks("rows", "w", 10, 8, Maker(killed_at=0))["w"], ROWS)  # kept as they were
    state = one.stream("statistics", "weights", 10, 8, Small(FULL), moments, START)
    assert torch.allclose(state["sum"], ROWS.sum(0), rtol=1e-12)
    assert torch.equal(one.rows({}, 10, 8, Small(FULL))["w"], ROWS)


def test_what_does_not_fit_alone_is_raised_and_so_is_any_other_error(tmp_path: Path) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        bench(tmp_path).chunks("rows", "w", 10, 8, Small(FULL, room=0))
    with pytest.raises(RuntimeError, match="shapes"):
        bench(tmp_path).chunks("rows", "w", 10, 8, Small(RuntimeError("shapes do not match")))
