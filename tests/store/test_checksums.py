"""Files are read once; without them their last checksum serves; nothing is downloaded unless asked for."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from privsweep.dataset.npz_format import write
from privsweep.dataset.prepared import Npz, Prepared
from privsweep.dataset.sources import OFFICIAL, Official
from privsweep.interface.data import Dataset
from privsweep.interface.errors import AbsentError
from privsweep.store.checksums import FILE, Checksums, at_hand

PAST = 1_600_000_000  # long settled


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Dataset]:
    """Notes whose contents are read."""
    noted: list[Dataset] = []
    for kind in (Npz, Prepared):
        read = kind.fingerprint
        monkeypatch.setattr(kind, "fingerprint", lambda self, read=read: (noted.append(self), read(self))[1])
    return noted


@pytest.fixture
def own(npz: Callable[..., Path], plain: dict[str, object]) -> Npz:
    path = npz()
    os.utime(path, (PAST, PAST))
    return Npz(path=path, **plain)  # type: ignore[arg-type]


def test_a_file_is_read_once(tmp_path: Path, own: Npz, reads: list[Dataset]) -> None:
    first = Checksums(tmp_path / "out").of(own, fetch=False)
    assert Checksums(tmp_path / "out").of(own, fetch=True) == first
    assert len(reads) == 1
    assert Checksums(tmp_path / "elsewhere").of(own, fetch=False) == first


def test_a_changed_file_is_read_again(
    tmp_path: Path, own: Npz, reads: list[Dataset], members: Callable[..., dict]
) -> None:
    checksums = Checksums(tmp_path)
    first = checksums.of(own, fetch=False)
    changed = members()
    changed["test_images"][0, 0, 0] ^= 1
    write(own.path, changed)  # of the same size: its time tells
    os.utime(own.path, (PAST + 1, PAST + 1))
    second = checksums.of(own, fetch=False)
    assert second != first
    os.utime(own.path, (PAST + 2, PAST + 2))
    assert checksums.of(own, fetch=False) == second
    assert len(reads) == 3


def test_a_file_that_may_change_within_the_resolution_of_its_time_is_read_again(
    tmp_path: Path, own: Npz, reads: list[Dataset]
) -> None:
    os.utime(own.path)
    for _ in range(2):
        Checksums(tmp_path).of(own, fetch=False)
    assert len(reads) == 2


def test_without_the_file_its_last_checksum_serves(tmp_path: Path, own: Npz) -> None:
    checksums = Checksums(tmp_path / "out")
    with pytest.raises(AbsentError, match=r"nowhere\.npz: no such file; .*out/checksums\.json"):
        checksums.of(Npz(**{**vars(own), "path": tmp_path / "nowhere.npz"}), fetch=False)
    known = checksums.of(own, fetch=False)
    own.path.unlink()
    assert not at_hand(own)
    assert checksums.of(own, fetch=False) == known
    with pytest.raises(AbsentError, match="no such file"):
        checksums.of(own, fetch=True)


def test_a_published_dataset_is_known_by_its_name_and_downloaded_only_to_run(
    tmp_path: Path, npz: Callable[..., Path], plain: dict, members: Callable[..., dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "publisher").touch()
    calls: list[Path] = []

    def load(folder: Path) -> dict:
        calls.append(folder)
        return members()

    monkeypatch.setitem(OFFICIAL, "mnist", Official(load, lambda: [(tmp_path / "publisher").as_uri()]))
    checksums = Checksums(tmp_path / "out")
    with pytest.raises(AbsentError, match=r'mnist\.npz is not there; run "privsweep-data mnist') as error:
        checksums.of(Prepared(name="mnist", data_dir=tmp_path / "a", **plain), fetch=False)
    assert "\n" not in str(error.value)
    assert not calls
    known = checksums.of(Prepared(name="mnist", data_dir=tmp_path / "a", **plain), fetch=True)
    assert len(calls) == 1
    assert checksums.of(Prepared(name="mnist", data_dir=tmp_path / "b", **plain), fetch=False) == known
    assert len(calls) == 1
    assert not (tmp_path / "b").exists()


def test_many_processes_note_at_once(tmp_path: Path, npz: Callable[..., Path], plain: dict) -> None:
    sets = [Npz(path=npz(name=f"n{i}"), **plain) for i in range(12)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda one: Checksums(tmp_path / "out").of(one, fetch=False), sets))
    for one in sets:
        one.path.unlink()
        assert Checksums(tmp_path / "out").of(one, fetch=False)


@pytest.mark.parametrize("text", ["", "[1]", '{"places": 3, "last": null}', '{"places": {"a": []}, "last": {"a": 7}}'])
def test_a_spoilt_file_counts_for_nothing(tmp_path: Path, own: Npz, text: str) -> None:
    checksums = Checksums(tmp_path)
    (tmp_path / FILE).write_text(text)
    assert checksums.of(own, fetch=False) == own.fingerprint()
    own.path.unlink()
    assert checksums.of(own, fetch=False)


def test_results_that_may_only_be_read_are_not_written_to(tmp_path: Path, own: Npz) -> None:
    (tmp_path / "out").write_text("")
    assert Checksums(tmp_path / "out").of(own, fetch=False) == own.fingerprint()
