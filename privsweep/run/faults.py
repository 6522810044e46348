"""What pydantic finds wrong with a component, in our words: one line for each key, with its value and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from privsweep.interface.printable import shown


def faults(key: str, node: Any, error: ValidationError) -> list[str]:
    """The lines on the component that ``node`` states under ``key``."""
    found: dict[str, list[ErrorDetails]] = {}
    for problem in error.errors():
        found.setdefault(".".join(filter(None, (key, *_place(node, problem["loc"])))), []).append(problem)
    # What holds of a whole list follows from what is wrong in it.
    kept = {path: f for path, f in found.items() if not any(other.startswith(f"{path}.") for other in found)}
    return [_line(path, problems) for path, problems in kept.items()]


def _place(node: Any, path: Sequence[int | str]) -> list[str]:
    """The part of a path that is in the configuration; what follows says which of several types was tried."""
    place: list[str] = []
    for name in path:
        known = isinstance(node, Mapping) and (name in node or str(name).isidentifier())
        entry = isinstance(node, list) and isinstance(name, int) and name < len(node)
        if place and not known and not entry:
            break
        place.append(str(name))
        node = node.get(name) if isinstance(node, Mapping) else node[name] if entry else None
    return place


def _line(path: str, problems: Sequence[ErrorDetails]) -> str:
    first = problems[0]
    if first["type"] == "unexpected_keyword_argument":
        return f"{path}: no such key; privsweep --cfg job lists the keys"
    if first["type"].startswith("missing"):
        return f"{path}: has no value; set it"
    said = [problem["msg"] for problem in problems]
    message = said[0] + "".join(f", or {other[:1].lower()}{other[1:]}" for other in said[1:])
    return f"{path}={shown(first['input'])}: {message[:1].lower()}{message[1:]}"
