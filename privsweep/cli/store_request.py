"""What ``privsweep-store`` is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from privsweep.cli.words import keys_in
from privsweep.interface.errors import UserError
from privsweep.store.inventory import KINDS

OUTPUT_DIR = "outputs"  # as in conf/config.yaml
DAYS = 30.0
BY = ("experiment", "attack", "defense", "dataset", "model", "fl_setting", "seed", "scale", "device", "date")
# Action: its keys besides output_dir.
_KEYS = {"": {"by"}, "show": set(), "prune": {"days", "yes"}, "pack": {"pictures", "to"}, "unpack": set()}


@dataclass(frozen=True)
class Request:
    """What was typed."""

    action: str  # one of those above, or a folder of the store
    output_dir: Path
    by: Sequence[str]
    days: float
    yes: bool
    run: str  # the beginning of the signature to show
    files: Sequence[Path]  # to pack the runs of, or to unpack
    to: Path | None  # where to pack
    pictures: bool


def requested(words: Sequence[str]) -> Request:
    """What words of the shell ask for. Raises UserError."""
    plain, given = keys_in(words)
    action, rest = (plain[0], plain[1:]) if plain else ("", [])
    if action not in (*_KEYS, *KINDS):
        raise UserError(
            f"{action}: is neither show, prune, pack, unpack nor a folder of the store; choose one of "
            f"{', '.join(KINDS)}"
        )
    if action == "show" and (len(rest) != 1 or not re.fullmatch("[0-9a-f]{1,12}", rest[0])):
        raise UserError(f"{' '.join(plain)}: takes one signature, or its beginning; privsweep-store runs lists them")
    if action not in ("show", "pack", "unpack") and rest:
        remedy = f"write {rest[0]}=true" if rest[0] == "yes" else f"leave {rest[0]} out"
        raise UserError(f"{' '.join(plain)}: one at a time; {remedy}")
    known = {"output_dir", *_KEYS.get(action, set())}
    for key, value in given.items():
        if key not in known:
            raise UserError(f"{key}={value}: is no key here; there are {', '.join(sorted(known))}")
    by = given.get("by", "experiment").split(",")
    for name in by:
        if name not in BY:
            raise UserError(f"by={name}: runs are not told apart by it; choose of {', '.join(BY)}")
        if by.count(name) > 1:
            raise UserError(f"by={given['by']}: names {name} twice; name it once")
    try:
        days = float(given.get("days", DAYS))
    except ValueError:
        days = -1.0
    if not 0 <= days < float("inf"):
        raise UserError(f"days={given['days']}: is no number of days; give 0 or more")
    return Request(
        action,
        Path(given.get("output_dir", OUTPUT_DIR)).expanduser(),
        by,
        days,
        _switch(given, "yes", "removes what is listed"),
        rest[0] if action == "show" else "",
        [Path(word).expanduser() for word in rest] if action in ("pack", "unpack") else [],
        Path(given["to"]).expanduser() if given.get("to") else None,
        _switch(given, "pictures", "packs every file of a run"),
    )


def _switch(given: Mapping[str, str], key: str, does: str) -> bool:
    value = given.get(key, "false").lower()
    if value not in ("true", "false"):
        raise UserError(f"{key}={value}: is true or false; true {does}")
    return value == "true"
