import errno
import fcntl
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from privsweep.interface.errors import UserError
from privsweep.interface.records import System
from privsweep.store.atomic import whole_file, whole_folder, write_json
from privsweep.store.inventory import record_in
from privsweep.store.store import Store, signature
from privsweep.store.writable import check_writable

SYSTEM = System(
    snapshots={0: {"w": torch.zeros(2)}, 3: {"w": torch.ones(2), "n": torch.tensor(4)}},
    utility={"test_accuracy": 0.5},
    curve=[{"round": 1, "loss": 2.0}],
)
CPU = torch.device("cpu")


def test_a_signature_is_of_the_whole_configuration_whatever_its_order() -> None:
    assert signature({"a": 1, "b": [1, 2]}) == signature({"b": [1, 2], "a": 1})
    assert len({signature(c) for c in ({"a": 1}, {"a": 2}, {"a": 1, "b": None}, {"a": [1]})}) == 4


def test_a_file_or_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def spoil(make: object) -> None:
        with make(tmp_path / "x") as draft:  # type: ignore[operator]
            (draft / "inside" if draft.is_dir() else draft).write_text("half")
            raise KeyboardInterrupt

    for make in (whole_file, whole_folder):
        with pytest.raises(KeyboardInterrupt):
            spoil(make)
    assert list(tmp_path.iterdir()) == []


def test_the_next_write_removes_what_a_killed_one_left_and_nothing_that_may_be_in_work(tmp_path: Path) -> None:
    names = {".page.html.old.html": 2, ".page.html.now.html": 0, ".bashrc": 2, ".page.md.old.md": 2}  # days
    for name, days in names.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - days * 24 * 3600,) * 2)
    with whole_file(tmp_path / "page.html") as draft:
        draft.write_text("whole")
    kept = {".page.html.now.html", ".bashrc", ".page.md.old.md"}
    assert {path.name for path in tmp_path.iterdir()} == kept | {"page.html"}
    with whole_file(tmp_path / "page.html", alone=True) as draft:
        draft.write_text("again")
    assert not (tmp_path / ".page.html.now.html").exists()


def test_what_a_killed_process_left_goes_at_once_and_what_a_living_one_writes_stays(tmp_path: Path) -> None:
    begun = "with whole_file(Path('page.html')) as draft:\n    print(draft.name, flush=True)\n    time.sleep(600)"
    script = f"import time\nfrom pathlib import Path\nfrom privsweep.store.atomic import whole_file\n{begun}\n"

    def names() -> set[str]:
        return {path.name for path in tmp_path.iterdir()}

    with subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as writing:
        assert writing.stdout is not None
        draft = writing.stdout.readline().strip()
        write_json(tmp_path / "page.html", "another's")
        assert names() == {"page.html", draft}
        writing.kill()
    write_json(tmp_path / "page.html", "another's")
    assert names() == {"page.html"}


def test_a_value_that_is_not_finite_is_no_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_a_record_that_is_nested_without_end_cannot_be_read_and_ends_no_command(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "0123456789ab" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text("[" * 100_000)
    assert record_in(path.parent) is None
    assert Store(tmp_path).record("0123456789ab") is None


def test_a_trained_system_is_made_once_and_comes_back_equal(tmp_path: Path) -> None:
    store = Store(tmp_path)
    made, cached = store.system({"k": 1}, CPU, lambda: SYSTEM)
    assert not cached
    again, cached = store.system({"k": 1}, CPU, pytest.fail)
    assert cached
    assert again.last == made.last == 3
    assert torch.equal(again.snapshots[3]["w"], torch.ones(2))
    assert again.snapshots[3]["n"].dtype == torch.int64
    assert (again.utility, list(again.curve)) == (SYSTEM.utility, list(SYSTEM.curve))
    assert not store.system({"k": 2}, CPU, lambda: SYSTEM)[1]


@pytest.mark.parametrize("content", ["{", "[]", '{"signature": "../../elsewhere", "status": "complete"}'])
def test_a_record_that_is_spoilt_or_of_another_run_is_set_aside(tmp_path: Path, content: str) -> None:
    path = tmp_path / "runs" / "abc" / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert Store(tmp_path).records() == []
    assert [p.name for p in path.parent.iterdir()] == ["record.corrupt"]


def test_a_failure_is_noted_until_the_next_success(tmp_path: Path) -> None:
    store = Store(tmp_path)
    record = {"signature": "abc", "status": "failed", "error": "out of memory"}
    store.fail("abc", record)
    assert store.record("abc") == record
    assert store.complete("abc") is None
    with store.writing("abc") as folder:
        write_json(folder / "record.json", {"signature": "abc", "status": "complete"})
    assert store.complete("abc") == {"signature": "abc", "status": "complete"}
    assert not list((tmp_path / "failed").iterdir())
    assert store.records() == [{"signature": "abc", "status": "complete"}]


def test_sigkill_in_the_middle_of_writing_leaves_no_record(tmp_path: Path) -> None:
    """The child writes records without end; what is there after the kill is whole."""
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from privsweep.store.store import Store\n"
            "from privsweep.store.atomic import write_json\n"
            "store = Store(Path(sys.argv[1])); n = 0\n"
            "while True:\n"
            "    with store.writing(f'r{n}') as folder:\n"
            "        (folder / 'victims.csv').write_text('x' * 100_000)\n"
            "        record = {'signature': f'r{n}', 'status': 'complete', 'n': list(range(20_000))}\n"
            "        write_json(folder / 'record.json', record)\n"
            "    n += 1\n",
            str(tmp_path),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("runs/r*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    folders = [f for f in (tmp_path / "runs").iterdir() if not f.name.startswith(".")]
    assert len(folders) >= 3
    for folder in folders:
        assert len(json.loads((folder / "record.json").read_text())["n"]) == 20_000
        assert (folder / "victims.csv").stat().st_size == 100_000


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_told_in_one_line(tmp_path: Path, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*given: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(UserError) as caught:
        Store(tmp_path).system({"k": 1}, CPU, pytest.fail)
    [line] = str(caught.value).splitlines()
    assert os.strerror(code) in line
    assert "choose an output_dir on another disk" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="output_dir"):
        check_writable(tmp_path / "outputs")


def test_a_full_disk_is_no_reason_for_another_folder(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # as on a disk that has no more room
    try:
        with pytest.raises(UserError) as caught:
            check_writable(tmp_path, [("hydra.run.dir", tmp_path / "logs")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    [line] = str(caught.value).splitlines()
    assert line.startswith(f"output_dir={tmp_path}: no room for results (File too large)")
    assert line.endswith("what was finished before is kept: make room, and the same command goes on from there")


def test_a_file_in_the_place_of_the_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outputs").write_text("")
    with pytest.raises(UserError, match="output_dir"):
        check_writable(tmp_path / "outputs")
