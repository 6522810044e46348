"""Files of the store that are cut off, changed or foreign: noticed, set aside, said in one line, made again."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import torch

from privsweep.interface.errors import UserError
from privsweep.interface.records import System
from privsweep.run.workbench import Workbench
from privsweep.store.atomic import write_json
from privsweep.store.images import FILE, load_images
from privsweep.store.rows import Rows
from privsweep.store.sealed import read_sealed, write_sealed
from privsweep.store.sealed_tensors import taken_tensors
from privsweep.store.store import Store
from privsweep.store.tidy import tidy

CPU = torch.device("cpu")
NUMBERS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))


def system(store: Store) -> torch.Tensor:
    made = System(snapshots={0: {"w": NUMBERS}}, utility={"test_accuracy": 0.5}, curve=[{"round": 1}])
    return store.system({"k": 1}, CPU, lambda: made)[0].snapshots[0]["w"]


def prepared(store: Store) -> torch.Tensor:
    return store.prepared({"k": 1}, CPU, lambda: {"w": NUMBERS})["w"]


def partial(store: Store) -> torch.Tensor:
    return Workbench(CPU, store, "abc").chunks("rows", "w", 8, 8, lambda part: {"w": NUMBERS[part]})["w"]


def rows(store: Store) -> torch.Tensor:
    return Workbench(CPU, store, "abc").rows({"k": 1}, 8, 4, lambda part: {"w": NUMBERS[part]})["w"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def folder(path: Path) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


DAMAGE = [cut, flip, empty, folder]
USES = [system, prepared, partial, rows]


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("use", USES)
def test_spoilt_numbers_are_noticed_and_made_again(
    tmp_path: Path,
    use: Callable[[Store], torch.Tensor],
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = Store(tmp_path)
    use(store)
    [path] = [p for p in tmp_path.rglob("*") if p.suffix in (".safetensors", ".bin")]
    damage(path)
    assert torch.equal(use(store), NUMBERS)
    [line] = capsys.readouterr().err.splitlines()
    assert str(path if use is not rows else path.parent) in line
    assert "made again" in line
    assert torch.equal(use(store), NUMBERS)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("use", USES)
def test_a_file_of_something_else_is_not_taken(
    tmp_path: Path, use: Callable[[Store], torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    use(store)
    [path] = [p for p in tmp_path.rglob("*") if p.suffix == ".safetensors" or p.name == "table.json"]
    if use is rows:
        note = read_sealed(path)
        assert note is not None
        write_sealed(path, {**note, "key": {"k": 2}})
    else:
        other = Store(tmp_path / "other")
        other.prepared({"k": 2}, CPU, lambda: {"w": NUMBERS + 1})
        next((tmp_path / "other").rglob("*.safetensors")).replace(path)
    assert torch.equal(use(store), NUMBERS)
    assert "of something else; set aside as" in capsys.readouterr().err


@contextmanager
def no_more_files() -> Iterator[None]:
    """As many files are open as may be."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        with suppress(OSError):
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        for file in held:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_cannot_be_read_for_the_moment_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a busy machine or a shared disk good results fail to open now and then."""
    store = Store(tmp_path)
    stored(store)
    system(store)
    rows(store)
    [tensors] = tmp_path.rglob("*.safetensors")
    [table] = (tmp_path / "rows").iterdir()
    files = sorted(tmp_path.rglob("*"))

    def reads() -> list[object]:
        looks: list[Callable[[], object]] = [
            lambda: store.complete("abc"),
            lambda: taken_tensors(tensors, CPU, {"k": 1}),
            lambda: Rows(table, {"k": 1}).first(8, 4, pytest.fail),
        ]
        return [told(look) for look in looks]

    def told(look: Callable[[], object]) -> object:
        try:
            return look()
        except UserError as error:
            return str(error)

    with no_more_files():
        refused = reads()
    assert all("cannot be read (Too many open files) and is left as it is" in str(line) for line in refused)
    assert sorted(tmp_path.rglob("*")) == files
    assert all(look is not None and not isinstance(look, str) for look in reads())
    assert capsys.readouterr().err == ""


def test_only_rows_from_the_spoilt_slice_on_are_made_again(tmp_path: Path) -> None:
    made: list[int] = []

    def make(part: slice) -> dict[str, torch.Tensor]:
        made.append(part.start)
        return {"w": NUMBERS[part]}

    bench = Workbench(CPU, Store(tmp_path), "abc")
    bench.rows({}, 8, 2, make)
    column = next(tmp_path.rglob("0.bin"))
    content = bytearray(column.read_bytes())
    content[4 * 3 * 4] ^= 1  # the first number of row 4
    column.write_bytes(content)
    made.clear()
    bench.rows({}, 3, 2, make)  # which does without that row
    assert made == []
    assert torch.equal(bench.rows({}, 8, 2, make)["w"], NUMBERS)
    assert made == [4, 6]


def test_names_keep_their_order(tmp_path: Path) -> None:
    made = {"w": NUMBERS, "b": NUMBERS.double(), "a": NUMBERS[0]}
    for _ in range(2):
        assert list(Store(tmp_path).prepared({"k": 1}, CPU, lambda: made)) == ["w", "b", "a"]


def stored(store: Store) -> Path:
    with store.writing("abc") as draft:
        (draft / "victims.csv").write_text("mse\n0.25\n")
        write_json(draft / "record.json", {"signature": "abc", "status": "complete", "metrics": {"mse": 0.25}})
    return store.folder("abc")


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("record.json", "0.25", "0.75"), ("record.json", "}", ""), ("victims.csv", "0.25", "0.75"),
     ("record.json", '"abc"', '"abd"')],
)  # fmt: skip
def test_a_changed_record_counts_as_absent(
    tmp_path: Path, name: str, before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    path = stored(store) / name
    assert store.complete("abc") == {"signature": "abc", "status": "complete", "metrics": {"mse": 0.25}}
    path.write_text(path.read_text().replace(before, after))
    assert store.complete("abc") is None
    assert len(capsys.readouterr().err.splitlines()) == 1
    stored(store)
    assert store.complete("abc") is not None
    assert not list(tmp_path.rglob("*.corrupt"))


@pytest.mark.parametrize("meanwhile", [1, 2])
def test_a_record_that_is_made_anew_while_it_is_read_is_taken(
    tmp_path: Path, meanwhile: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report reads what a run with ``force=true`` is filing."""
    store, made, looks = Store(tmp_path), iter(range(9)), iter(range(9))
    real = Path.read_bytes

    def file() -> None:
        n = next(made)
        with store.writing("abc") as draft:
            (draft / "victims.csv").write_text(f"made {n}")
            write_json(draft / "record.json", {"signature": "abc", "status": "complete", "n": n})

    def read(path: Path) -> bytes:
        if path == store.folder("abc") / "victims.csv" and next(looks) < meanwhile:
            file()
        return real(path)

    file()
    monkeypatch.setattr(Path, "read_bytes", read)
    assert store.complete("abc") == {"signature": "abc", "status": "complete", "n": meanwhile}
    assert capsys.readouterr().err == ""


def test_a_spoilt_record_is_left_to_the_process_that_makes_it_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    cut(stored(store) / "record.json")
    with Store(tmp_path).lock("run-abc"):
        assert store.complete("abc") is None
        assert (store.folder("abc") / "record.json").is_file()
    assert capsys.readouterr().err == ""
    assert store.complete("abc") is None
    assert "set aside" in capsys.readouterr().err


def test_who_lists_records_leaves_those_alone_that_are_being_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writing("abc") as draft:
        write_json(draft / "record.json", {"signature": "abc", "status": "complete"})
        half = tmp_path / "failed" / ".abd.json.xyz.json"
        half.parent.mkdir()
        half.write_text("{")
        assert store.records() == store.failures() == []
        assert half.is_file()
    assert len(store.records()) == 1


def test_pictures_may_be_removed_and_spoilt_ones_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path)
    (stored(store) / "victims.csv").unlink()
    assert store.complete("abc") is not None
    (store.folder("abc") / FILE).write_bytes(b"PK\x03\x04")
    assert load_images(store.folder("abc")) is None
    assert "left out" in capsys.readouterr().err


def test_what_is_no_lock_file_is_set_aside(tmp_path: Path) -> None:
    for name, spoil in (("a", folder), ("b", lambda p: p.symlink_to(tmp_path / "elsewhere"))):
        path = tmp_path / "locks" / f"{name}.lock"
        path.parent.mkdir(exist_ok=True)
        if name == "a":
            path.touch()
        spoil(path)
        with Store(tmp_path).lock(name):
            assert path.is_file()
    assert not (tmp_path / "elsewhere").exists()


def test_what_is_no_folder_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "systems").write_text("a file")
    store = Store(tmp_path)
    tidy(store)
    assert torch.equal(system(store), NUMBERS)
    assert (tmp_path / "systems.corrupt").read_text() == "a file"


def test_drafts_and_chunks_that_a_kill_left_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    left = [tmp_path / "systems" / ".x.safetensors.123.safetensors", tmp_path / "runs" / ".abc.xyz"]
    left[0].parent.mkdir()
    left[0].touch()
    left[1].mkdir(parents=True)
    stored(store)
    assert not left[1].exists()
    noted = tmp_path / "sweeps" / ".2026-01-01.json.abc.json"
    noted.parent.mkdir()
    noted.touch()
    os.utime(noted, (0, 0))
    Workbench(CPU, store, "abc").chunks("attack", "victims", 2, 2, lambda part: {"w": torch.zeros(2)})
    Workbench(CPU, store, "abd").chunks("attack", "victims", 2, 2, lambda part: {"w": torch.zeros(2)})
    tidy(store)
    assert [p.name for p in tmp_path.glob("partial/*")] == ["abd"]
    assert not noted.exists()
    assert json.loads((store.folder("abc") / "record.json").read_text())["files"].keys() == {"victims.csv"}
