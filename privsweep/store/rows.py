"""Tables that grow on the disk: rows too many for memory, which every run that needs them shares.

A table is a folder: one file of raw numbers a column, and a note of how many rows are finished. Rows are written before
the note, so that a killed process loses no more than the slice that it was at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.store.atomic import read_json, write_json

_NOTE = "table.json"


class Rows:
    """The table in ``folder``; ``key`` is kept beside it for who looks there. One process at a time may add to it."""

    def __init__(self, folder: Path, key: Mapping[str, Any]):
        self.folder, self.key = folder, key

    def first(self, n: int, size: int, make: Callable[[slice], Tensors]) -> dict[str, Tensor]:
        """The first ``n`` rows; those that are missing are made, ``size`` at once.

        Raises ValueError where ``make`` gives columns of another kind than the table's.
        """
        while (done := self.finished) < n:
            part = slice(done, min(done + size, n))
            self._add(part, make(part))
        return {name: self._column(name, n, column) for name, column in self._columns().items()}

    @property
    def finished(self) -> int:
        """Rows that are there; none where a file is spoilt or too short."""
        note = self._note()
        rows = int(note.get("rows", 0))
        for column in self._columns().values():
            path, one = self.folder / column["file"], torch.empty(column["shape"], dtype=_dtype(column), device="meta")
            if not path.is_file() or path.stat().st_size < rows * one.numel() * one.element_size():
                return 0
        return rows

    def _note(self) -> dict[str, Any]:
        try:
            note = read_json(self.folder / _NOTE)
        except (OSError, ValueError):
            return {}
        return note if isinstance(note, dict) else {}

    def _columns(self) -> dict[str, dict[str, Any]]:
        columns: dict[str, dict[str, Any]] = self._note().get("columns", {})
        return columns

    def _add(self, part: slice, made: Tensors) -> None:
        columns: dict[str, dict[str, Any]] = {
            name: {"file": f"{i}.bin", "dtype": str(t.dtype).removeprefix("torch."), "shape": list(t.shape[1:])}
            for i, (name, t) in enumerate(made.items())
        }
        if part.start and (known := self._columns()) != columns:
            raise ValueError(f"{self.folder}: rows of another kind: {columns} instead of {known}")
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, t in made.items():
            with open(self.folder / columns[name]["file"], "r+b" if part.start else "wb") as file:
                file.seek(part.start * t[0].numel() * t.element_size())
                file.write(t.detach().cpu().contiguous().numpy().tobytes())
                file.flush()
                os.fsync(file.fileno())
        write_json(self.folder / _NOTE, {"rows": part.stop, "columns": columns, "key": dict(self.key)})

    def _column(self, name: str, n: int, column: Mapping[str, Any]) -> Tensor:
        """Mapped into memory: what is not in use takes none."""
        shape = [n, *column["shape"]]
        path, numbers = str(self.folder / column["file"]), torch.Size(shape).numel()
        return torch.from_file(path, shared=False, size=numbers, dtype=_dtype(column)).view(shape)


def _dtype(column: Mapping[str, Any]) -> torch.dtype:
    found: torch.dtype = getattr(torch, column["dtype"])
    return found
