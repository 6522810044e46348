"""Files that are written whole or not at all."""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from privsweep.store.spoilt import remove

_LEFT_SECONDS = 24 * 3600  # after which a draft that nobody has written to is one of a killed process


@contextmanager
def whole_file(path: Path, alone: bool = False) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` when the block ends well, and is gone otherwise.

    Drafts of this file that killed processes left are removed; ``alone``: a lock keeps others away, so they all are
    such. A draft's name says which process it is of, so that one of this machine is known to be left at once.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_drafts(path.parent, _drafts(path), left=alone)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.{_of_process()}", suffix=path.suffix)
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
    """Removes those that killed processes left; ``left``: that is known of all, and else by their process or age."""
    for draft in folder.glob(pattern):
        with suppress(OSError):
            if left or _ended(draft) or time.time() - draft.lstat().st_mtime > _LEFT_SECONDS:
                remove(draft)


def _of_process() -> str:
    """What the name of a draft says of this process; nothing where nobody could tell later whether it lives."""
    return f"{here}-{os.getpid()}." if (here := _numbering()) else ""


def _ended(draft: Path) -> bool:
    """Whether its process is one of this machine, and is gone; not where another has its number by now."""
    found = re.search(rf"\.{here}-(\d+)\.\w+(\.\w+)?$", draft.name) if (here := _numbering()) else None
    try:
        if found:
            os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    return False


@cache
def _numbering() -> str:
    """Eight digits for the numbers that processes have here, until the next start; none where nothing tells them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        return f"{zlib.crc32(boot + os.readlink('/proc/self/ns/pid').encode()):08x}"  # of a container its own
    except OSError:  # no Linux
        return ""


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
