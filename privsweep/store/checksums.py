"""The checksums of datasets and checkpoints: files are read once, and records are found without them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from privsweep.interface.errors import AbsentError
from privsweep.store.sealed import read_sealed, write_sealed
from privsweep.store.store import Store

if TYPE_CHECKING:
    from privsweep.interface.contents import Contents, DataFiles

FILE = "checksums.json"
Notes = dict[str, dict[str, Any]]
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

    def last(self) -> dict[str, str]:
        """The last checksum of every name that is noted, such as ``dataset=mnist``."""
        return dict(self._read()["last"])

    def _note(self, files: DataFiles | None, checksum: str) -> None:
        if files is None or files.state is None:
            return
        settled = time.time_ns() - files.changed_ns > SETTLED_NS
        place = {files.place: {"state": files.state, "checksum": checksum}} if settled else {}
        notes: Notes = {"places": place, "last": {files.name: checksum}}
        if _postponed:
            _postponed[-1].append((self.root, notes))
        else:
            self.add(notes)

    def add(self, new: Notes) -> None:
        """Writes notes to the file, beside those that are there by now."""
        try:
            with Store(self.root).lock("checksums"):
                notes = self._written()
                write_sealed(self.root / FILE, {part: {**notes[part], **new[part]} for part in notes})
        except OSError:  # somebody else's results, that may only be read
            return

    def _read(self) -> Notes:
        """What is noted, be it written yet or not."""
        notes = self._written()
        for root, new in (note for block in _postponed for note in block):
            if root == self.root:
                notes = {part: {**notes[part], **new[part]} for part in notes}
        return notes

    def _written(self) -> Notes:
        """What the file says; one that is spoilt counts for nothing, for all in it can be computed again."""
        notes = read_sealed(self.root / FILE) or {}
        places, last = (part if isinstance(part := notes.get(name), dict) else {} for name in ("places", "last"))
        return {"places": places, "last": {k: v for k, v in last.items() if isinstance(v, str)}}


_postponed: list[list[tuple[Path, Notes]]] = []  # what the blocks that are under way have noted


@contextmanager
def postponed() -> Iterator[None]:
    """Notes are written when the block ends well: a request that is refused in it leaves no file behind."""
    _postponed.append([])
    try:
        yield
    except BaseException:
        _postponed.pop()
        raise
    for root, notes in _postponed.pop():
        Checksums(root).add(notes)


def absent(source: Contents) -> str | None:
    """Why it cannot be read without a download, in one line that names a remedy; None where it can."""
    files = source.files()
    return files.absent if files is not None and files.state is None else None


def at_hand(source: Contents) -> bool:
    """Whether it can be read without a download."""
    return absent(source) is None
