"""Stored runs in one file: to publish beside a table, to carry from a cluster, to lay out again without computing."""

from __future__ import annotations

import io
import json
import lzma
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from privsweep.interface.errors import UserError
from privsweep.store.atomic import read_json, whole_file
from privsweep.store.checksums import Checksums
from privsweep.store.foreign import NUMBERS, RECORD, all_numbers, take
from privsweep.store.locks import BusyError
from privsweep.store.spoilt import SpoiltError
from privsweep.store.store import Store

SUFFIX = ".runs.tar.xz"
DATA = "checksums.json"  # of the datasets, by name
_MEMBER = re.compile(r"([0-9a-f]{12})/([a-z_]+\.[a-z]+)")
_LARGEST = 1 << 29  # bytes of one file of a run, which is read as a whole
_PIECE = 1 << 20


def pack(store: Store, signs: Sequence[str], path: Path, pictures: bool = False) -> None:
    """Writes the runs with these signatures to ``path``, whole or not at all.

    With ``pictures`` every file of a run, otherwise those with its numbers. The same runs make the same bytes.

    Raises UserError where one of them is not stored complete, with all of its numbers.
    """
    lacking = [sign for sign in signs if not all_numbers(store, sign)]
    if lacking:
        verb, such = ("is", "") if len(lacking) == 1 else ("are", "such as ")
        raise UserError(
            f"output_dir={store.root}: {len(lacking)} of {len(signs)} runs {verb} not stored there complete "
            f"({such}{lacking[0]}); repeat the command that makes them, or name the folder that has them"
        )
    records = "".join(json.dumps(read_json(store.folder(sign) / RECORD)) for sign in signs)
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

    That is what ``take`` tells, or ``under way`` where a process is at it. The checksums of their datasets are
    noted where none is known, so that runs are found without the data.

    Raises UserError where the file cannot be read to its end, before anything is stored, or where a run is not as it
    was written.
    """
    _check(path)
    told = {}
    with _opened(path) as archive:
        for sign, files in _runs(archive):
            try:
                if sign == DATA:
                    _note(store, files[DATA])
                else:
                    told[sign] = take(store, sign, files)
            except BusyError:
                told[sign] = "under way"
            except SpoiltError as error:
                raise UserError(f"{path}: {sign}: {error}; have it packed again") from error
    return told


def _check(path: Path) -> None:
    """Raises UserError unless it is whole and holds nothing but files of runs, each run's side by side."""
    before, seen = "", set[str]()
    with _opened(path) as archive:
        for member in archive:
            name, sign = member.name, member.name.partition("/")[0]
            if not member.isreg() or not (name == DATA or _MEMBER.fullmatch(name)):
                raise UserError(f"{path}: {name} is no file of a run; have it packed by privsweep-store pack")
            if member.size > _LARGEST:
                raise UserError(f"{path}: {name} has {member.size:,} bytes; pack without pictures, or fewer victims")
            if name in seen or (sign != before and sign in seen):
                raise UserError(f"{path}: {name} is in two places; have it packed by privsweep-store pack")
            seen |= {name, sign} if name != DATA else {name}
            before = sign


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """Read in one go, to the end, where its checksum stands."""
    if not os.access(path, os.R_OK):
        raise UserError(f"{path}: may not be read; see to its permissions")
    try:
        with lzma.open(path) as raw, tarfile.open(fileobj=raw, mode="r|") as archive:
            yield archive
            while raw.read(_PIECE):
                pass
    except (tarfile.TarError, lzma.LZMAError, EOFError) as error:
        raise UserError(f"{path}: is no whole file of packed runs ({error}); have it packed again") from error


def _runs(archive: tarfile.TarFile) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Signature and files of one run after another, of which one is in memory; DATA by itself."""
    for sign, members in groupby(archive, lambda member: member.name.partition("/")[0]):
        files = {}
        for member in members:
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
