"""Values that a sweep types for a component which only some of its combinations choose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.types import Override, OverrideType

from privsweep.run.companions import GROUPS, Read
from privsweep.run.overrides import SEVERAL, parsed

Unset = dict[str, str]  # by what was typed, the choice that has no such key


def unset(combination: Sequence[Override], typed: Sequence[Override], stated: Read) -> Unset:
    """Those of a combination that its own choice of a swept group has no key for, and another choice has.

    ``typed``: the sweep; ``stated``: what a choice's file states.
    """
    found: Unset = {}
    for sweep in {override.get_key_element(): override for override in typed}.values():  # what is typed last counts
        group = sweep.key_or_group
        if not sweep.is_sweep_override() or group not in GROUPS or sweep.package is not None:
            continue
        choices = parsed([f"{group}={value}" for value in sweep.sweep_string_iterator()])
        own = [override for override in combination if override.key_or_group == group][-1]
        for override in combination:
            first, *path = override.key_or_group.split(".")
            if first != group or not path or override.type != OverrideType.CHANGE:
                continue
            if not _has(own, path, stated) and any(_has(choice, path, stated) for choice in choices):
                found[str(override.input_line)] = str(own.input_line)
    return found


def has_key(node: Any, path: Iterable[str]) -> bool:
    """Whether a configuration has a key there."""
    for step in path:
        if not isinstance(node, Mapping) or step not in node:
            return False
        node = node[step]
    return True


def _has(choice: Override, path: Sequence[str], stated: Read) -> bool:
    names: Any = choice.value()
    if choice.key_or_group == SEVERAL:
        return path[0] in ([names] if isinstance(names, str) else names)
    return has_key(stated(choice.key_or_group, str(names)), path)
