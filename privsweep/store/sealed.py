"""JSON with a checksum, so that a flipped bit is noticed as well as a missing end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privsweep.store.atomic import read_json, write_json
from privsweep.store.spoilt import ABSENT, SpoiltError, set_aside, unreadable

SEAL = "checksum"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """With a checksum over all of it."""
    rest = {name: value for name, value in content.items() if name != SEAL}
    return {**rest, SEAL: hashlib.sha256(plain(rest).encode()).hexdigest()}


def unsealed(content: Any) -> dict[str, Any]:
    """Without the checksum. Raises SpoiltError where it is another, or the content no JSON object."""
    if not isinstance(content, dict):
        raise SpoiltError("no such file as was written")
    if content.get(SEAL) != sealed(content)[SEAL]:
        raise SpoiltError("changed since it was written")
    return {name: value for name, value in content.items() if name != SEAL}


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """JSON with a checksum; one process at a time."""
    write_json(path, sealed(content), alone=True)


def read_sealed(path: Path) -> dict[str, Any] | None:
    """None where nothing is there, or something spoilt, which is set aside.

    Raises UserError where the system does not hand it over.
    """
    try:
        return unsealed(read_json(path))
    except ABSENT:
        return None
    except (SpoiltError, ValueError, RecursionError, IsADirectoryError) as error:
        set_aside(path, error if isinstance(error, SpoiltError) else "no such file as was written")
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def plain(content: Any) -> str:
    """The text that checksums are taken of."""
    return json.dumps(content, sort_keys=True)
