"""Tables that grow on the disk: rows too many for memory, which every run that needs them shares.

A table is a folder: one file of raw numbers a column, and a note of the slices that are finished, with a checksum of
each. Rows are written before the note, so that a killed process loses no more than the slice that it was at.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.store.sealed import read_sealed, write_sealed
from privsweep.store.spoilt import ABSENT, remove, say, set_aside, unreadable

_NOTE = "table.json"
_READ = 2**24  # bytes at once
Columns = dict[str, dict[str, Any]]  # by name: file, dtype, shape of one row


class Rows:
    """The table in ``folder``; ``key`` is kept beside it for who looks there. One process at a time may add to it."""

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        self.folder, self.key = folder, json.loads(json.dumps(dict(key)))
        self.columns: Columns = {}
        self.slices: list[dict[str, Any]] = []  # first, stop, and the checksum of every column

    def first(self, n: int, size: int, make: Callable[[slice], Tensors]) -> dict[str, Tensor]:
        """The first ``n`` rows; those that are missing or spoilt are made, ``size`` at once.

        ``make`` may give fewer rows than it is asked for, from the first on. Raises ValueError where it gives columns
        of another kind than the table's, UserError where the system does not hand over what is there.
        """
        self._look(n)
        while (done := self.finished) < n:
            made = make(slice(done, min(done + size, n)))
            self._add(slice(done, done + len(next(iter(made.values())))), made)
        return {name: self._column(name, n, column) for name, column in self.columns.items()}

    @property
    def finished(self) -> int:
        """Rows that are there."""
        return int(self.slices[-1]["stop"]) if self.slices else 0

    def _look(self, n: int) -> None:
        """Reads the note, and checks the slices that the first ``n`` rows are in."""
        note = read_sealed(self.folder / _NOTE)
        if note is None:
            return
        if note["key"] != self.key:
            set_aside(self.folder, "of something else")
            return
        self.columns, self.slices = note["columns"], note["slices"]
        for k, part in enumerate(self.slices):
            rows = slice(part["first"], part["stop"])
            if rows.start < n and part["checksums"] != [self._checksum(c, rows) for c in self.columns.values()]:
                say(f"{self.folder}: changed or cut off; rows from {rows.start} on are made again")
                del self.slices[k:]
                return

    def _add(self, part: slice, made: Tensors) -> None:
        columns: Columns = {
            name: {"file": f"{i}.bin", "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape[1:])}
            for i, (name, t) in enumerate(made.items())
        }
        if part.start and self.columns != columns:
            raise ValueError(f"{self.folder}: rows of another kind: {columns} instead of {self.columns}")
        self.folder.mkdir(parents=True, exist_ok=True)
        checksums = []
        for name, t in made.items():
            numbers = t.detach().cpu().contiguous().numpy().tobytes()
            path = self.folder / columns[name]["file"]
            if not part.start:
                remove(path)
            with open(path, "r+b" if part.start else "wb") as file:
                file.seek(part.start * _row_bytes(columns[name]))
                file.write(numbers)
                file.flush()
                os.fsync(file.fileno())
            checksums.append(zlib.crc32(numbers))
        self.columns = columns
        self.slices = [*self.slices, {"first": part.start, "stop": part.stop, "checksums": checksums}]
        write_sealed(self.folder / _NOTE, {"columns": columns, "slices": self.slices, "key": self.key})

    def _checksum(self, column: Mapping[str, Any], rows: slice) -> int | None:
        """Of what is on the disk; None where that is too short, or no file."""
        checksum, left = 0, (rows.stop - rows.start) * _row_bytes(column)
        path = self.folder / column["file"]
        try:
            with open(path, "rb") as file:
                file.seek(rows.start * _row_bytes(column))
                while left and (read := file.read(min(left, _READ))):
                    checksum, left = zlib.crc32(read, checksum), left - len(read)
        except (*ABSENT, IsADirectoryError):
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        return None if left else checksum

    def _column(self, name: str, n: int, column: Mapping[str, Any]) -> Tensor:
        """Mapped into memory: what is not in use takes none."""
        shape = [n, *column["shape"]]
        path, numbers = str(self.folder / column["file"]), torch.Size(shape).numel()
        return torch.from_file(path, shared=False, size=numbers, dtype=_dtype(column)).view(shape)


def _row_bytes(column: Mapping[str, Any]) -> int:
    one = torch.empty(column["shape"], dtype=_dtype(column), device="meta")
    return one.numel() * one.element_size()


def _dtype(column: Mapping[str, Any]) -> torch.dtype:
    found: torch.dtype = getattr(torch, column["dtype"])
    return found
