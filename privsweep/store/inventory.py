"""What an output folder holds of what the store wrote there, with sizes; and how a part of it is removed.

Only what has the store's own names counts. Links are neither followed nor removed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from privsweep.interface.errors import UserError
from privsweep.store.atomic import read_json
from privsweep.store.locks import BusyError, held, locked
from privsweep.store.sealed import unsealed
from privsweep.store.spoilt import SpoiltError
from privsweep.store.store import Record

_SIGN = "[0-9a-f]{12}"
# Folder: the names in it, and the lock that whoever works on an entry holds.
_FOLDERS: dict[str, tuple[str, str | None]] = {
    "runs": (_SIGN, "run"),
    "systems": (rf"{_SIGN}\.safetensors", "system"),
    "prepared": (rf"{_SIGN}\.safetensors", "prepared"),
    "rows": (_SIGN, "rows"),
    "partial": (_SIGN, "run"),
    "failed": (rf"{_SIGN}\.json", "run"),
    "logs": (r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}", None),
    "sweeps": (r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d-\d{6}\.json", None),
    "summaries": (r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d(_\d+)?\.(md|csv|png)", None),
}
KINDS = tuple(_FOLDERS)
SHARED = ("systems", "prepared", "rows")  # what several runs may use
_DRAFT = re.compile(rf"\.({_SIGN}).*")
_SPOILT = re.compile(rf"({_SIGN}).*\.corrupt")


@dataclass(frozen=True)
class Entry:
    """A file or folder of the store."""

    kind: str  # the folder that it is in
    path: Path
    size: int  # bytes
    changed: float  # seconds since 1970
    draft: bool  # what a process had not finished when it was killed, or is writing now
    spoilt: bool  # set aside, for it could not be read

    @property
    def name(self) -> str:
        """Twelve hexadecimal digits; of logs and summaries when they began."""
        found = re.search(_SIGN, self.path.name) if _FOLDERS[self.kind][1] else None
        return found[0] if found else self.path.stem


def inventory(root: Path) -> list[Entry]:
    """All entries below ``root``, by folder and name. Raises UserError where privsweep has never written."""
    if not (root / "locks").is_dir():
        raise UserError(f"output_dir={root}: privsweep has stored nothing there; name another folder")
    return [entry for kind in KINDS for entry in _entries(root / kind, kind)]


def _entries(folder: Path, kind: str) -> Iterator[Entry]:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        draft, spoilt = bool(_DRAFT.fullmatch(path.name)), bool(_SPOILT.fullmatch(path.name))
        if not (draft or spoilt or re.fullmatch(_FOLDERS[kind][0], path.name)):
            continue
        measured = _measure(path)
        if measured is not None:
            yield Entry(kind, path, *measured, draft, spoilt)


def _measure(path: Path) -> tuple[int, float] | None:
    """Bytes and the last change of all that is in it; None where it is gone, or a link is in it."""
    size, changed = 0, 0.0
    try:
        for one in (path, *path.rglob("*")) if path.is_dir() and not path.is_symlink() else (path,):
            about = one.lstat()
            if one.is_symlink():
                return None
            size += about.st_size if one.is_file() else 0
            changed = max(changed, about.st_mtime)
    except OSError:  # a running sweep has just moved it
        return None
    return size, changed


def record_in(path: Path) -> Record | None:
    """The record of a run or of a failure, as it lies there; None where it cannot be read."""
    try:
        found = unsealed(read_json(path / "record.json" if path.is_dir() else path))
    except (OSError, ValueError, SpoiltError):
        return None
    return found if isinstance(found.get("config"), dict) else None


def key_of(entry: Entry) -> dict[str, Any]:
    """What a trained system, a preparation or a table of rows follows from; empty where it does not say."""
    try:
        if entry.kind == "rows":
            note = read_json(entry.path / "table.json")
        else:
            with safe_open(entry.path, "pt") as file:
                note = json.loads((file.metadata() or {}).get("privsweep", "{}"))
    except (OSError, ValueError, SafetensorError):
        return {}
    key = note.get("key", note) if isinstance(note, dict) else {}
    return key if isinstance(key, dict) else {}


def under_way(root: Path) -> list[str]:
    """Signatures of the runs that processes on this machine, or on a disk that knows locks, are at."""
    locks = sorted((root / "locks").glob("run-*.lock"))
    return [path.stem.removeprefix("run-") for path in locks if held(path)]


def remove(root: Path, entry: Entry) -> bool:
    """Deletes an entry for good; False where somebody works on it, or it is no longer as it was listed."""
    prefix = _FOLDERS[entry.kind][1]
    if prefix is None:
        return _removed(entry)
    try:
        with locked(root / "locks" / f"{prefix}-{entry.name}.lock", wait=None):
            return _removed(entry)
    except BusyError:
        return False


def _removed(entry: Entry) -> bool:
    if entry.path.parent.is_symlink() or _measure(entry.path) != (entry.size, entry.changed):
        return False
    if entry.path.is_dir():
        shutil.rmtree(entry.path)
    else:
        os.unlink(entry.path)
    return True
