"""Whether results can be written: better known before a run than after hours."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.store.full_disk import no_room

_PROBE = 2**18  # bytes


def check_writable(root: Path, places: Sequence[tuple[str, Path]] = ()) -> None:
    """Raises UserError where nothing can be written.

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
        with tempfile.TemporaryFile(dir=folder) as file:  # without a name, so that a kill leaves nothing
            file.write(bytes(_PROBE))  # for on a full disk an empty file can be written
        return made
    except OSError as error:
        _remove(made)
        strange = f"{key}={shown(folder)}: cannot be written ({error.strerror or error}); choose another folder"
        raise UserError(no_room(folder, error, key) or strange) from error


def _remove(folders: Sequence[Path]) -> None:
    for folder in reversed(folders):
        with suppress(OSError):  # somebody else has begun to use it
            folder.rmdir()
