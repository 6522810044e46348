"""Runs that were made elsewhere are filed as they were written there."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path

from privsweep.store.atomic import read_json, whole_file, whole_folder
from privsweep.store.sealed import unsealed
from privsweep.store.spoilt import ABSENT, SpoiltError
from privsweep.store.store import FILES, Store

RECORD = "record.json"
NUMBERS = frozenset({RECORD, "roc.csv", "training.csv", "victims.csv"})  # what tables, claims and curves are made of
_PARTS = {"choices", "config", "environment", "metrics", "privacy", "scale", "seconds", "threat_model", "utility"}


def take(store: Store, sign: str, files: Mapping[str, bytes]) -> str:
    """Files a run that was made elsewhere, as it was written there, and tells what became of it.

    ``new``; or of one that is stored complete, which stays: ``completed`` where it is this very one and lacked some of
    ``files``, and ``there``. Other files that lie there and are this run's stay, too.

    Raises SpoiltError where it is not as it was written, and BusyError where a process is at that run.
    """
    folder, own = store.folder(sign), _own_files(files, sign)
    with store.lock(f"run-{sign}", wait=None):
        if store.complete(sign) is not None:
            lacking = [name for name in own.keys() & files.keys() if not (folder / name).is_file()]
            if not lacking or _content(folder / RECORD) != files[RECORD]:
                return "there"
            for name in lacking:
                with whole_file(folder / name, alone=True) as draft:
                    draft.write_bytes(files[name])
            return "completed"
        with whole_folder(folder) as draft:
            for name, checksum in own.items():
                kept = _content(folder / name)
                if name not in files and kept is not None and zlib.crc32(kept) == checksum:
                    (draft / name).write_bytes(kept)
            for name, content in files.items():
                (draft / name).write_bytes(content)
        store.settle(sign)
    return "new"


def all_numbers(store: Store, sign: str) -> bool:
    """Whether a run is stored complete, with every file that numbers are read from."""
    if store.complete(sign) is None:
        return False
    own = read_json(store.folder(sign) / RECORD).get(FILES, {})
    return all((store.folder(sign) / name).is_file() for name in own if name in NUMBERS)


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (*ABSENT, IsADirectoryError):
        return None


def _own_files(files: Mapping[str, bytes], sign: str) -> dict[str, int]:
    """Checksums of the files of a complete run by name, its record apart.

    Raises SpoiltError where ``files`` are not that record, sealed, and others of them as they were written, or where
    those that every number is read from are not among them.
    """
    try:
        record = unsealed(json.loads(files.get(RECORD, b"{}")))
    except (ValueError, RecursionError) as error:
        raise SpoiltError("no such file as was written") from error
    own = record.get(FILES, {})
    if record.get("signature") != sign or record.get("status") != "complete":
        raise SpoiltError("of another run, or not complete")
    if not record.keys() >= _PARTS or not isinstance(own, dict):
        raise SpoiltError("its record lacks what privsweep writes")
    for name, content in files.items():
        if name != RECORD and name not in own:
            raise SpoiltError(f"{name} is none of its files")
        if name != RECORD and zlib.crc32(content) != own[name]:
            raise SpoiltError(f"{name} has changed since it was written")
    lacking = sorted((own.keys() & NUMBERS) - files.keys())
    if lacking:
        raise SpoiltError(f"{lacking[0]} is missing")
    return own
