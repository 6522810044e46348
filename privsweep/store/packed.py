"""Stored runs in one file: to publish beside a table, to carry from a cluster, to lay out again without computing."""

from __future__ import annotations

import io
import json
import lzma
import re
import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from privsweep.interface.errors import UserError
from privsweep.store.atomic import whole_file
from privsweep.store.checksums import Checksums
from privsweep.store.locks import BusyError
from privsweep.store.spoilt import SpoiltError
from privsweep.store.store import Store

SUFFIX = ".runs.tar.xz"
DATA = "checksums.json"  # of the datasets, by name
NUMBERS = ("record.json", "roc.csv", "training.csv", "victims.csv")  # what tables, claims and curves are made of
_MEMBER = re.compile(r"([0-9a-f]{12})/([a-z_]+\.[a-z]+)")


def pack(store: Store, signs: Sequence[str], path: Path, pictures: bool = False) -> None:
    """Writes the runs with these signatures to ``path``, whole or not at all.

    With ``pictures`` every file of a run, otherwise those with its numbers. The same runs make the same bytes.

    Raises UserError where one of them is not stored complete.
    """
    lacking = [sign for sign in signs if store.complete(sign) is None]
    if lacking:
        verb, such = ("is", "") if len(lacking) == 1 else ("are", "such as ")
        raise UserError(
            f"output_dir={store.root}: {len(lacking)} of {len(signs)} runs {verb} not stored there complete "
            f"({such}{lacking[0]}); repeat the command that makes them, or name the folder that has them"
        )
    records = "".join((store.folder(sign) / "record.json").read_text(encoding="utf-8") for sign in signs)
    known = Checksums(store.root).last()
    used = {name: checksum for name, checksum in sorted(known.items()) if f'"{checksum}"' in records}
    with whole_file(path) as draft, tarfile.open(draft, "w:xz") as archive:
        _add(archive, DATA, json.dumps(used, indent=2).encode())
        for sign in sorted(signs):
            for file in sorted(store.folder(sign).iterdir()):
                name = f"{sign}/{file.name}"
                if file.is_file() and _MEMBER.fullmatch(name) and (pictures or file.name in NUMBERS):
                    _add(archive, name, file.read_bytes())


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    """With neither owner nor date: they are not the run's."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    archive.addfile(about, io.BytesIO(content))


def unpack(store: Store, path: Path) -> dict[str, str]:
    """Files the runs in ``path`` as they were made, and returns by signature what has become of each.

    That is ``new``, ``there`` where a complete one was stored already, which stays, or ``under way`` where a process
    is at it. The checksums of their datasets are noted where none is known, so that runs are found without the data.
    Raises UserError where the file cannot be read, or holds something else than runs as they were written.
    """
    told = {}
    try:
        for sign, files in _runs(path):
            try:
                if sign == DATA:
                    _note(store, files[DATA])
                else:
                    told[sign] = "new" if store.take(sign, files) else "there"
            except BusyError:
                told[sign] = "under way"
            except SpoiltError as error:
                raise UserError(f"{path}: {sign}: {error}; have it packed again") from error
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path}: is no whole file of packed runs ({error}); have it packed again") from error
    return told


def _runs(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Signature and files of one run after another, of which one is in memory; DATA by itself."""
    with tarfile.open(path, "r:xz") as archive:
        for sign, members in groupby(archive, lambda member: member.name.partition("/")[0]):
            files = {}
            for member in members:
                if not member.isreg() or not (member.name == DATA or _MEMBER.fullmatch(member.name)):
                    raise UserError(
                        f"{path}: {member.name} is no file of a run; have it packed by privsweep-store pack"
                    )
                content = archive.extractfile(member)
                files[member.name.rpartition("/")[2]] = content.read() if content else b""
            yield sign, files


def _note(store: Store, content: bytes) -> None:
    """Checksums of datasets by name, where the store knows none of that name."""
    checksums = Checksums(store.root)
    try:
        told = json.loads(content)
        new = {name: one for name, one in told.items() if isinstance(one, str) and name not in checksums.last()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise SpoiltError("no such file as was written") from error
    checksums.add({"places": {}, "last": new})
