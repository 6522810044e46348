"""Files that are written whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from privsweep.store.spoilt import remove

_LEFT_SECONDS = 24 * 3600  # after which a draft that nobody has written to is one of a killed process


@contextmanager
def whole_file(path: Path, alone: bool = False) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` when the block ends well, and is gone otherwise.

    Drafts of this file that killed processes left are removed; ``alone``: a lock keeps others away, so they all are
    such.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(path.parent, _drafts(path), left=alone)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(0o644)
        _flush(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``path`` when the block ends well, and is gone otherwise.

    One process at a time; drafts that a killed one left are removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(path.parent, _drafts(path), left=True)
    draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    before = draft.with_name(f"{draft.name}.before")
    try:
        yield draft
        draft.chmod(0o755)
        for file in draft.rglob("*"):
            if file.is_file():
                _flush(file)
        if os.path.lexists(path):
            path.rename(before)
        draft.rename(path)
    finally:
        if os.path.lexists(before) and not path.exists():
            before.rename(path)
        remove(before)
        shutil.rmtree(draft, ignore_errors=True)


def remove_drafts(folder: Path, pattern: str, left: bool = False) -> None:
    """Removes those that killed processes left; ``left``: that is known of all, and else by their age."""
    for draft in folder.glob(pattern):
        with suppress(OSError):
            if left or time.time() - draft.lstat().st_mtime > _LEFT_SECONDS:
                remove(draft)


def _drafts(path: Path) -> str:
    return f".{glob.escape(path.name)}.*"


def write_json(path: Path, content: Any, alone: bool = False) -> None:
    """Strict JSON: a value that is not finite is an error, not a file that other tools reject."""
    with whole_file(path, alone) as draft:
        draft.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """In any encoding of JSON, as an editor may have left it. Raises ValueError for what is none, or too deep."""
    try:
        return json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError(f"{path}: nested too deeply") from error


def _flush(path: Path) -> None:
    """To the disk, so that a power cut after the rename leaves no empty file."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
