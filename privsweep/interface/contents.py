"""Files that results depend on, and what tells their contents apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class DataFiles:
    """The files that a dataset, or a checkpoint, is read from."""

    name: str  # that the last checksum is known by where the files are gone: dataset=mnist
    place: str  # absolute
    state: str | None  # digest of names, sizes and times of all files; None: they are not there
    changed_ns: int  # modification time of the youngest file, in nanoseconds since 1970
    absent: str  # why nothing can be read without a download, in one line that names a remedy


@runtime_checkable
class Contents(Protocol):
    """What is read from files and told apart by their contents, wherever they lie."""

    def files(self) -> DataFiles | None:
        """Which files there are, as they are now; None where none are needed. Reads none, and fetches none."""
        ...

    def fingerprint(self) -> str:
        """A checksum of the contents, which enters every signature; missing files of published datasets are fetched."""
        ...
