"""The checksums of datasets and checkpoints: files are read once, and records are found without them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from privsweep.interface.data import Contents, DataFiles
from privsweep.interface.errors import AbsentError
from privsweep.store.sealed import read_sealed, write_sealed
from privsweep.store.store import Store

FILE = "checksums.json"
SETTLED_NS = 2_000_000_000  # younger files may change once more within their time's resolution (two seconds on FAT)


class Checksums:
    """``<root>/checksums.json``: for every place the state and checksum of its files, for every name the last."""

    def __init__(self, root: Path):
        self.root = root

    def of(self, source: Contents, fetch: bool) -> str:
        """The checksum of what ``source`` reads. Files whose sizes and times are known are not read again.

        Where the files are not there, they are downloaded with ``fetch``, or else the last checksum of that name
        stands for them. Raises AbsentError where the download fails, or no checksum is known.
        """
        files = source.files()
        if files is None:
            return source.fingerprint()
        notes = self._read()
        last = notes["last"].get(files.name)
        if files.state is None and not fetch:
            if last is None:
                raise AbsentError(f"{files.absent} (nor does {self.root / FILE} know its checksum)")
            return last
        if last and notes["places"].get(files.place) == {"state": files.state, "checksum": last}:
            return last
        checksum = source.fingerprint()
        self._note(source.files() if files.state is None else files, checksum)
        return checksum

    def _note(self, files: DataFiles | None, checksum: str) -> None:
        if files is None or files.state is None:
            return
        place = {"state": files.state, "checksum": checksum}
        try:
            with Store(self.root).lock("checksums"):
                notes = self._read()
                notes["last"][files.name] = checksum
                if time.time_ns() - files.changed_ns > SETTLED_NS:
                    notes["places"][files.place] = place
                write_sealed(self.root / FILE, notes)
        except OSError:  # somebody else's results, that may only be read
            return

    def _read(self) -> dict[str, dict[str, Any]]:
        """What is noted; a file that is spoilt counts for nothing, for all in it can be computed again."""
        notes = read_sealed(self.root / FILE) or {}
        places, last = (part if isinstance(part := notes.get(name), dict) else {} for name in ("places", "last"))
        return {"places": places, "last": {k: v for k, v in last.items() if isinstance(v, str)}}


def at_hand(source: Contents) -> bool:
    """Whether it can be read without a download."""
    files = source.files()
    return files is None or files.state is not None
