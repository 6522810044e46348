"""``privsweep-store pack`` and ``unpack``: runs in one file, for a table's readers or for another machine."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

from privsweep.cli import terminal
from privsweep.cli.sizes import size
from privsweep.cli.store_request import Request
from privsweep.interface.errors import UserError
from privsweep.store.packed import SUFFIX, pack, unpack
from privsweep.store.store import Store

_SIGN = re.compile("[0-9a-f]{12}")


def packed(asked: Request) -> None:
    """Packs the runs of the tables that were named, or all, and says so. Raises UserError."""
    store = Store(asked.output_dir)
    if asked.to is not None and not asked.to.name.endswith(".tar.xz"):
        raise UserError(f"to={asked.to}: is written as a .tar.xz file; let its name end so, such as all{SUFFIX}")
    tables = {table: _runs_of(table) for table in asked.files}
    if asked.to is None:
        if not tables:
            raise UserError("pack: takes a table's .csv file, or to=FILE for all complete runs; name one")
        wanted = {table.with_name(table.stem + SUFFIX): signs for table, signs in tables.items()}
    elif tables:
        wanted = {asked.to: sorted(set().union(*tables.values()))}
    else:
        wanted = {asked.to: [record["signature"] for record in store.records()]}
    if not all(wanted.values()):
        raise UserError(f"output_dir={asked.output_dir}: holds no complete run; name the folder that has some")
    for path, signs in wanted.items():
        try:
            pack(store, signs, path, asked.pictures)
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror or error}); name another by to=FILE"
            ) from error
        terminal.say(f"{path}: {_runs(len(signs))}, {size([path.stat().st_size])}")


def _runs_of(table: Path) -> list[str]:
    """The signatures in a table's CSV file. Raises UserError where it is none."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            signs = {row.get("run") or "" for row in csv.DictReader(file)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{table}: cannot be read ({reason}); name the .csv file of a table") from error
    found = sorted(sign for sign in signs if _SIGN.fullmatch(sign))
    if not found:
        raise UserError(f"{table}: names no run; name the .csv file of a table, as privsweep-report writes it")
    return found


def unpacked(asked: Request) -> None:
    """Stores the runs of the files that were named, and says so. Raises UserError."""
    if not asked.files:
        raise UserError(f"unpack: takes the files to unpack, such as table1{SUFFIX}; name one")
    for path in asked.files:
        if not path.is_file():
            raise UserError(f"{path}: is no file; name one that privsweep-store pack wrote")
        told = Counter(unpack(Store(asked.output_dir), path).values())
        there = f"; {told['there']} were there" if told["there"] else ""
        there += f"; files of {told['completed']} more that they lacked" if told["completed"] else ""
        busy = f"; {told['under way']} under way here stay as they are" if told["under way"] else ""
        terminal.say(f"{path}: {_runs(told['new'])} stored in {asked.output_dir}{there}{busy}")


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
