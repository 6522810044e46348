"""Where results are filed: records by the signature of their configuration, trained systems by what determines them.

A folder that exists is complete: it was written beside its place and renamed. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.interface.records import System
from privsweep.store.atomic import read_json, whole_file, whole_folder, write_json

SCHEMA = 2  # raised when a record or a trained system of the same configuration would come out differently
Record = dict[str, Any]


def signature(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits of a configuration, of all of it: changed defaults must not relabel results."""
    text = json.dumps({"schema": SCHEMA, "config": config}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Store:
    """The output folder."""

    def __init__(self, root: Path):
        self.root = root

    def folder(self, sign: str) -> Path:
        """The record's folder: record.json, victims.csv, curve.csv and pictures."""
        return self.root / "runs" / sign

    def partial(self, sign: str) -> Path:
        """Finished chunks of a run that is under way or was cut off."""
        return self.root / "partial" / sign

    def record(self, sign: str) -> Record | None:
        """The stored record, or that of the last failure, or None."""
        for path in (self.folder(sign) / "record.json", self._failure(sign)):
            if path.is_file():
                try:
                    record: Record = read_json(path)
                except ValueError:
                    record = {}
                if isinstance(record, dict) and record.get("signature") == sign:
                    return record
                # spoilt, or of another run: set aside, so that this one is done again
                path.rename(path.with_suffix(".corrupt"))
        return None

    def complete(self, sign: str) -> Record | None:
        record = self.record(sign)
        return record if record and record.get("status") == "complete" else None

    def records(self) -> list[Record]:
        """All complete records."""
        found = (self.complete(path.parent.name) for path in sorted(self.root.glob("runs/*/record.json")))
        return [record for record in found if record]

    def failures(self) -> list[Record]:
        """The last failure of every run that has no complete record."""
        signs = [path.stem for path in sorted(self.root.glob("failed/*.json"))]
        return [record for sign in signs if (record := self.record(sign)) and record.get("status") == "failed"]

    @contextmanager
    def writing(self, sign: str) -> Iterator[Path]:
        """A folder to fill with the record and its files; filed when the block ends well."""
        with whole_folder(self.folder(sign)) as draft:
            yield draft
        self._failure(sign).unlink(missing_ok=True)
        shutil.rmtree(self.partial(sign), ignore_errors=True)

    def fail(self, sign: str, record: Record) -> None:
        """Notes a failure beside the records; the next success removes it."""
        write_json(self._failure(sign), record)

    def lock(self, name: str) -> FileLock:
        """One process at a time works on ``name``, on this machine and on a shared disk that knows locks."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / f"{name}.lock")

    def system(self, key: Mapping[str, Any], device: torch.device, make: Callable[[], System]) -> tuple[System, bool]:
        """The system trained from ``key``, from the cache or made now; and whether it was cached.

        A corrupt entry is set aside as ``<name>.corrupt`` and made again.
        """
        name = signature(key)
        path = self.root / "systems" / f"{name}.safetensors"
        with self.lock(f"system-{name}"):
            if path.is_file():
                try:
                    return _load_system(path, device), True
                except (SafetensorError, KeyError, ValueError, OSError):
                    path.replace(path.with_suffix(".corrupt"))
            system = make()
            _save_system(path, system, key)
            return system, False

    def prepared(self, key: Mapping[str, Any], device: torch.device, make: Callable[[], Tensors]) -> Tensors:
        """What an attack prepared from ``key``, from the cache or made now; a corrupt entry is set aside."""
        name = signature(key)
        path = self.root / "prepared" / f"{name}.safetensors"
        with self.lock(f"prepared-{name}"):
            if path.is_file():
                try:
                    return load_file(path, str(device))
                except (SafetensorError, OSError):
                    path.replace(path.with_suffix(".corrupt"))
            made = {name: t.contiguous() for name, t in make().items()}
            with whole_file(path) as draft:
                save_file(made, draft, metadata={"privsweep": json.dumps(dict(key))})
            return made

    def _failure(self, sign: str) -> Path:
        return self.root / "failed" / f"{sign}.json"


def _save_system(path: Path, system: System, key: Mapping[str, Any]) -> None:
    tensors = {
        f"{done}/{name}": t.contiguous().cpu()
        for done, weights in system.snapshots.items()
        for name, t in weights.items()
    }
    notes = {"utility": dict(system.utility), "curve": [dict(row) for row in system.curve], "key": key}
    with whole_file(path) as draft:
        save_file(tensors, draft, metadata={"privsweep": json.dumps(notes)})


def _load_system(path: Path, device: torch.device) -> System:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        notes = json.loads(file.metadata()["privsweep"])
    snapshots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in load_file(path, str(device)).items():
        done, _, parameter = name.partition("/")
        snapshots.setdefault(int(done), {})[parameter] = tensor
    return System(snapshots=snapshots, utility=notes["utility"], curve=notes["curve"])


def check_writable(root: Path, places: Sequence[tuple[str, Path]] = ()) -> None:
    """Raises UserError where nothing can be written: better now than after hours.

    ``places`` are further folders under their keys. They do not stay; what was refused leaves nothing behind.
    """
    made: list[Path] = []
    try:
        for key, folder in (("output_dir", root), *places):
            made += _tried(key, folder)
    except UserError:
        _remove(made)
        raise
    _remove([folder for folder in made if folder in [place for _, place in places]])


def _tried(key: str, folder: Path) -> list[Path]:
    """The folders that had to be made, from the top, in order to write there."""
    made: list[Path] = []
    try:
        for parent in (*reversed(folder.parents), folder):
            if not parent.is_dir():
                parent.mkdir(exist_ok=True)
                made.append(parent)
        with tempfile.TemporaryFile(dir=folder):
            return made
    except OSError as error:
        _remove(made)
        raise UserError(
            f"{key}={shown(folder)}: cannot be written ({error.strerror or error}); choose another folder"
        ) from error


def _remove(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # somebody else has begun to use it
            folder.rmdir()
