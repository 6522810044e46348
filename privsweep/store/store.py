"""Where results are filed: records by the signature of their configuration, trained systems by what determines them.

A folder that exists is complete: it was written beside its place and renamed. Every file has a checksum; one that is
spoilt is set aside, and what was in it is made again. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privsweep.store.atomic import read_json, whole_folder, write_json
from privsweep.store.locks import BusyError, locked
from privsweep.store.sealed import sealed, unsealed
from privsweep.store.spoilt import ABSENT, SpoiltError, say, set_aside, unreadable

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from privsweep.interface.data import Tensors
    from privsweep.interface.records import System

SCHEMA = 2  # raised when a record or a trained system of the same configuration would come out differently
Record = dict[str, Any]
FILES = "files"  # of a record: checksums of those beside it


def signature(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a configuration, of all of it: changed defaults must not relabel results."""
    text = json.dumps({"schema": SCHEMA, "config": config}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Store:
    """The output folder."""

    def __init__(self, root: Path):
        self.root = root
        self.used: dict[str, list[str]] = {}  # folder: entries that this object handed out, for the record

    def folder(self, sign: str) -> Path:
        """The record's folder: record.json, victims.csv, curve.csv and pictures."""
        return self.root / "runs" / sign

    def partial(self, sign: str) -> Path:
        """Finished chunks of a run that is under way or was cut off."""
        return self.root / "partial" / sign

    def record(self, sign: str, files: bool = True) -> Record | None:
        """The stored record, or that of the last failure, or None.

        One that is spoilt or of another run is set aside, so that this run is done again; with ``files`` also where
        another file in its folder has changed since. Raises UserError where the system does not hand it over.
        """
        for path in (self.folder(sign) / "record.json", self._failure(sign)):
            while (text := _text(path)) is not None:
                try:
                    return _checked(text, path, sign, files)
                except (SpoiltError, ValueError, RecursionError) as error:
                    reason = error if isinstance(error, SpoiltError) else "no such file as was written"
                    if self._left(path, text, sign, reason):
                        break
        return None

    def _left(self, path: Path, text: bytes, sign: str, reason: object) -> bool:
        """Whether there is nothing more to read: what is spoilt is set aside, but for what another process renews.

        False where it has been filed anew since ``text`` was read.
        """
        if _text(path) != text:
            return False
        try:
            with self.lock(f"run-{sign}", wait=None):
                if _text(path) != text:
                    return False
                set_aside(path, reason)
        except BusyError:
            pass
        except OSError:  # somebody else's results, that may only be read
            say(f"{path}: {reason}; ignored")
        return True

    def complete(self, sign: str, files: bool = True) -> Record | None:
        record = self.record(sign, files)
        return record if record and record.get("status") == "complete" else None

    def records(self) -> list[Record]:
        """All complete records; the files beside them are not read."""
        paths = sorted(self.root.glob("runs/[!.]*/record.json"))  # with a dot: what is being written
        found = (self.complete(path.parent.name, files=False) for path in paths)
        return [record for record in found if record]

    def failures(self) -> list[Record]:
        """The last failure of every run that has no complete record."""
        signs = [path.stem for path in sorted(self.root.glob("failed/[!.]*.json"))]
        return [record for sign in signs if (record := self.record(sign)) and record.get("status") == "failed"]

    @contextmanager
    def writing(self, sign: str) -> Iterator[Path]:
        """A folder to fill with the record and its files; filed when the block ends well."""
        with whole_folder(self.folder(sign)) as draft:
            yield draft
            record = draft / "record.json"
            files = {path.name: zlib.crc32(path.read_bytes()) for path in sorted(draft.iterdir()) if path != record}
            write_json(record, sealed({**read_json(record), FILES: files}))
        self.settle(sign)

    def settle(self, sign: str) -> None:
        """Removes what was kept of a run that is complete by now: its last failure, and its parts."""
        self._failure(sign).unlink(missing_ok=True)
        self.forget_parts(sign)

    def forget_parts(self, sign: str) -> None:
        """Removes what was kept of work that is done."""
        shutil.rmtree(self.partial(sign), ignore_errors=True)

    def fail(self, sign: str, record: Record) -> None:
        """Notes a failure beside the records; the next success removes it."""
        write_json(self._failure(sign), sealed(record), alone=True)

    @contextmanager
    def lock(self, name: str, wait: str | None = "") -> Iterator[None]:
        """One process at a time works on ``name``; see ``locked``."""
        with locked(self._lock(name), wait):
            yield

    def in_work(self, sign: str) -> bool:
        """Whether a process is at that run."""
        try:
            with self.lock(f"run-{sign}", wait=None):
                return False
        except BusyError:
            return True

    def _lock(self, name: str) -> Path:
        folder = self.root / "locks"
        path = folder / f"{name}.lock"
        if os.path.lexists(folder) and not folder.is_dir():
            set_aside(folder, "not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and (path.is_symlink() or not path.is_file()):
            set_aside(path, "not a file")
        return path

    def trained(self, key: Mapping[str, Any]) -> bool:
        """Whether there is a file of the system trained from ``key``."""
        return (self.root / "systems" / f"{signature(key)}.safetensors").is_file()

    def system(self, key: Mapping[str, Any], device: torch.device, make: Callable[[], System]) -> tuple[System, bool]:
        """The system trained from ``key``, from the cache or made now; and whether it was cached."""
        from privsweep.store.sealed_tensors import save_tensors, taken_tensors  # here, for records need no PyTorch

        name = self.using("systems", key)
        path = self.root / "systems" / f"{name}.safetensors"
        with self.lock(f"system-{name}", f"waiting for another process that trains system {name}"):
            if (taken := taken_tensors(path, device, key)) is not None:
                return _system(*taken), True
            system = make()
            tensors = {f"{done}/{name}": t for done, weights in system.snapshots.items() for name, t in weights.items()}
            notes = {"utility": dict(system.utility), "curve": [dict(row) for row in system.curve]}
            save_tensors(path, tensors, key, **notes)
            return system, False

    def prepared(self, key: Mapping[str, Any], device: torch.device, make: Callable[[], Tensors]) -> Tensors:
        """What an attack prepared from ``key``, from the cache or made now."""
        from privsweep.store.sealed_tensors import save_tensors, taken_tensors  # as above

        name = self.using("prepared", key)
        path = self.root / "prepared" / f"{name}.safetensors"
        with self.lock(f"prepared-{name}", f"waiting for another process that prepares {name}"):
            if (taken := taken_tensors(path, device, key)) is not None:
                return taken[0]
            made = {name: t.contiguous() for name, t in make().items()}
            save_tensors(path, made, key)
            return made

    def using(self, kind: str, key: Mapping[str, Any]) -> str:
        """The name of what follows from ``key``, and a note that it is used."""
        name = signature(key)
        if name not in self.used.setdefault(kind, []):
            self.used[kind].append(name)
        return name

    def _failure(self, sign: str) -> Path:
        return self.root / "failed" / f"{sign}.json"


def _system(tensors: Tensors, notes: Mapping[str, Any]) -> System:
    from privsweep.interface.records import System  # as above

    snapshots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        done, _, parameter = name.partition("/")
        snapshots.setdefault(int(done), {})[parameter] = tensor
    return System(snapshots=snapshots, utility=notes["utility"], curve=notes["curve"])


def _text(path: Path) -> bytes | None:
    """What is in a file, None where there is none. Raises UserError where the system does not hand it over."""
    try:
        return path.read_bytes()
    except (*ABSENT, IsADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def _checked(text: bytes, path: Path, sign: str, files: bool) -> Record:
    """The record in ``text``, read from ``path``. Raises SpoiltError. Those of earlier versions have no checksum."""
    content = json.loads(text)
    record: Record = unsealed(content) if not isinstance(content, dict) or "checksum" in content else content
    if record.get("signature") != sign:
        raise SpoiltError("of another run")
    written = record.pop(FILES, {})
    for name, checksum in written.items() if files else ():
        found = _text(path.parent / Path(name).name)
        if found is not None and zlib.crc32(found) != checksum:  # one that was removed takes nothing from the record
            raise SpoiltError(f"{Path(name).name} has changed since it was written")
    return record
