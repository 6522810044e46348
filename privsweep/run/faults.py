"""What pydantic finds wrong with a component, in our words: one line for each key, with its value and the remedy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from inspect import get_annotations
from typing import Any

from hydra.utils import get_class
from pydantic import ValidationError
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic_core import ErrorDetails

from privsweep.interface.printable import shown
from privsweep.run.overrides import nearest


def faults(key: str, node: Any, error: ValidationError) -> list[str]:
    """The lines on the component that ``node`` states under ``key``."""
    found: dict[str, list[ErrorDetails]] = {}
    siblings: dict[str, Collection[str]] = {}
    for problem in error.errors():
        place = _place(node, problem["loc"])
        path = ".".join(filter(None, (key, *place)))
        found.setdefault(path, []).append(problem)
        siblings[path] = _fields(node, place[:-1])
    # What holds of a whole list follows from what is wrong in it.
    kept = {path: f for path, f in found.items() if not any(other.startswith(f"{path}.") for other in found)}
    lines = {path: _undecorated(key, node, path) or _line(path, f, siblings[path]) for path, f in kept.items()}
    unknown = [path for path, f in kept.items() if path == f"{key}.{f[0]['loc'][0]}" and _unheard(f, siblings[path])]
    if len(unknown) > 1:
        lines |= dict.fromkeys(unknown, _baseless(key, node, unknown))
    return list(dict.fromkeys(lines.values()))


def _unheard(problems: Sequence[ErrorDetails], siblings: Collection[str]) -> bool:
    """Whether it is a key that a class has not, nor one that is nearly it."""
    first = problems[0]
    return first["type"] == "unexpected_keyword_argument" and not get_close_matches(str(first["loc"][-1]), siblings, 1)


def _baseless(key: str, node: Any, unknown: Sequence[str]) -> str:
    """Of several such keys: mostly those of another class's YAML, which this one was to extend."""
    names = ", ".join(path.removeprefix(f"{key}.") for path in unknown)
    return (
        f"{key}={node['_target_']}: has no {names}; let the class extend the one that has them, or let its YAML leave "
        "them out"
    )


def _undecorated(key: str, node: Any, path: str) -> str | None:
    """Where a class extends a component, and names fields of its own without being one."""
    made = get_class(node["_target_"])
    if path.removeprefix(f"{key}.") not in get_annotations(made) or is_pydantic_dataclass(made):
        return None
    return f"{key}={node['_target_']}: has fields and is no component; decorate the class with @privsweep.component"


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


def _fields(node: Any, place: Sequence[str]) -> Collection[str]:
    """The keys that there are at a place of a component; none where it is unknown."""
    made: Any = get_class(node["_target_"])
    for name in place:
        field = getattr(made, "__pydantic_fields__", {}).get(name)
        made = field and field.annotation
    return getattr(made, "__pydantic_fields__", ())


def _line(path: str, problems: Sequence[ErrorDetails], siblings: Collection[str]) -> str:
    first = problems[0]
    if first["type"] == "unexpected_keyword_argument":
        return f"{path}: no such key; {nearest(path.rpartition('.')[2], siblings)}"
    last = problems[-1]["loc"][-1]
    if first["type"] == "missing" and isinstance(last, int):  # of a list of so many
        return f"{path}={shown(first['input'])}: has {len(first['input'])} of {last + 1} values; give all"
    if first["type"].startswith("missing"):
        return f"{path}: has no value; set it"
    said = [problem["msg"] for problem in problems]
    message = said[0] + "".join(f", or {other[:1].lower()}{other[1:]}" for other in said[1:])
    return f"{path}={shown(first['input'])}: {message[:1].lower()}{message[1:]}"
