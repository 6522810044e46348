"""Compositions of a plan, most of which differ from another in values alone: these are set in what that one came to.

Hydra composes once for each set of choices and keys. A value is set afterwards where nothing in the configuration
refers to its key, so that what comes out is what Hydra would have made of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override, OverrideType

from privsweep.run.compose import Composition, compose, parse, shaped

_MOST = 64  # compositions that are kept
_JUDGED = "output_dir"  # while Hydra composes
_PLAIN = (str, int, float, bool, type(None))
Key = tuple[str, ...]


class Variants:
    """To be used in ``searching``, for as long as the files stay as they are.

    ``known``: what all of them have in common and nobody asks them for, already resolved.
    """

    def __init__(self, known: Mapping[str, Any] = MappingProxyType({})) -> None:
        self._known = known
        self._referred: dict[Key, frozenset[str] | None] = {}
        self._groups: dict[str, bool] = {}
        self._made: OrderedDict[Key, Composition] = OrderedDict()

    def compose(self, overrides: Sequence[str]) -> Composition:
        """As ``compose``, but that Hydra's own part may be that of another composition. Raises UserError."""
        typed = parse(overrides)
        plain = self._plain(typed)
        alike = tuple(o.key_or_group if p else str(o.input_line) for o, p in zip(typed, plain, strict=True))
        if alike not in self._referred:
            made = compose(overrides, self._known)
            self._referred[alike] = made.referred
            self._keep(self._key(typed, plain, alike), made)
            return made
        key = self._key(typed, plain, alike)
        if key not in self._made:
            self._keep(key, compose(overrides, self._known))
        self._made.move_to_end(key)
        made = self._made[key]
        config = made.config
        for override in self._free(typed, plain, alike):
            config = _with(config, override.key_or_group.split("."), override.value())
        return shaped(replace(made, config=config, overrides=tuple(overrides)))

    def _plain(self, typed: Sequence[Override]) -> list[bool]:
        """Which set a value and no choice, with nothing else set of it or within it."""
        values = [o for o in typed if not self._is_choice(o)]
        return [
            any(o is v for v in values)
            and _plain_value(o)
            and not any(_related(o.key_or_group, other.key_or_group) for other in values if other is not o)
            for o in typed
        ]

    def _is_choice(self, override: Override) -> bool:
        key = override.key_or_group
        if key not in self._groups:
            loader: Any = GlobalHydra.instance().config_loader()
            self._groups[key] = loader.repository.group_exists(key)
        return self._groups[key]

    def _free(self, typed: Sequence[Override], plain: Sequence[bool], alike: Key) -> list[Override]:
        """Those that can be set afterwards."""
        referred = self._referred[alike]
        if referred is None:
            return []
        pairs = zip(typed, plain, strict=True)
        return [o for o, p in pairs if p and referred.isdisjoint(o.key_or_group.split("."))]

    def _key(self, typed: Sequence[Override], plain: Sequence[bool], alike: Key) -> Key:
        """The same for compositions that differ in nothing else."""
        free = {id(o) for o in self._free(typed, plain, alike)}
        return tuple(a if id(o) in free else str(o.input_line) for o, a in zip(typed, alike, strict=True))

    def _keep(self, key: Key, made: Composition) -> None:
        self._made[key] = made
        if len(self._made) > _MOST:
            self._made.popitem(last=False)


def _plain_value(override: Override) -> bool:
    """Whether it changes a value to one that refers to nothing."""
    if override.type != OverrideType.CHANGE or override.package is not None or override.is_sweep_override():
        return False
    if override.key_or_group == _JUDGED or override.is_hydra_override():
        return False
    value = override.value()
    return all(_is_simple(one) for one in (value if isinstance(value, list) else [value]))


def _is_simple(value: Any) -> bool:
    return isinstance(value, _PLAIN) and not (isinstance(value, str) and (set(value) & {"$", "\\"} or value == "???"))


def _related(one: str, other: str) -> bool:
    """Whether they are the same key, or one is part of the other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _with(node: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy with that value; what is not on its path is shared."""
    first, *rest = path
    return {**node, first: _with(node[first], rest, value) if rest else value}
