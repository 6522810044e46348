"""What a choice brings with it: the setting, the model or the data that an attack needs, where the user named none.

A file of a group may state them, beside its values:

    brings: {fl_setting: split, dataset.prior_size: {value: 400, unless: dataset@prior}}

They count as if they had been typed, and are said. What was typed stays, and so does what the file of a typed choice
states: there, only null, 0 and false are filled. Where it brings other values too, a typed choice changes its own only
if one of the others counts: who typed all that it needs gets the file's. An experiment states everything itself, so
nothing is brought to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override

from privsweep.interface.errors import UserError

KEY = "brings"
GROUPS = ("defense", "attack", "fl_setting", "model", "dataset")  # what the earlier one brings counts first
Brought = dict[str, dict[str, Any]]  # by what was typed, such as attack=iga, the keys that it brings, with values
Read = Callable[[str, str], Mapping[str, Any]]  # what the file of a group's choice states, not resolved
Choice = tuple[str, str]  # group and choice


@dataclass(frozen=True)
class _Offer:
    """One companion, before it is known whether it counts."""

    source: Choice
    root: str  # the typed choice that led to the source, such as attack=iga
    key: str
    value: Any
    unless: tuple[str, ...]  # keys that meet the need as well

    @property
    def own(self) -> bool:
        """Whether it is a value of its source."""
        return self.key.startswith(f"{self.source[0]}.")


def companions(typed: Sequence[Override], read: Read) -> Brought:
    """What the typed overrides bring, none of which may be a sweep over a group.

    Raises UserError where a file's ``brings`` holds anything but values for components, or was itself overridden.
    """
    named = {key for override in typed for key in keys_of(override)}
    if "experiment" in named:
        return {}
    for key in named:
        if key.split(".")[-1] == KEY or f".{KEY}." in key:
            raise UserError(f"{key}: only the file of a choice states it; type what is to count instead")
    chosen = dict(sorted(_chosen(typed), key=lambda found: GROUPS.index(found[0][0])))
    offers, choices = _offers(chosen, named, read)
    counting: dict[str, _Offer] = {}
    for offer in offers:
        if offer.key not in counting and _counts(offer, named, chosen, choices, read):
            counting[offer.key] = offer
    brought: Brought = {}
    for offer in counting.values():
        others = [o for o in offers if o.source == offer.source and not o.own]
        complete = others and not any(o.key in counting for o in others)
        if not (offer.own and offer.source in chosen and complete):
            brought.setdefault(offer.root, {})[offer.key] = offer.value
    return brought


def _offers(chosen: Mapping[Choice, str], named: set[str], read: Read) -> tuple[list[_Offer], Mapping[str, str]]:
    """Companions of the chosen and of what these bring, groups first, and the choice of every group by then."""
    roots = dict(chosen)
    taken = {*named}
    groups: list[_Offer] = []
    values: list[_Offer] = []
    queue = [*roots]
    for source in queue:  # grows
        for key, value, unless in _stated(*source, read):
            offer = _Offer(source, roots[source], key, value, unless)
            (groups if key in GROUPS else values).append(offer)
            if key in GROUPS and key not in taken:
                taken.add(key)
                further = [(key, str(one)) for one in (value if isinstance(value, list) else [value])]
                roots |= dict.fromkeys(further, offer.root)
                queue += further
    choices = {group: name for group, name in roots if group != "defense"}
    meant = {(offer.source, offer.key): offer.value for offer in groups}
    fitting = []
    for offer in values:
        group = offer.key.partition(".")[0]
        if meant.get((offer.source, group), choices.get(group)) == choices.get(group):  # of a choice that was made
            fitting.append(offer)
    return groups + fitting, choices


def as_overrides(values: Mapping[str, Any]) -> list[str]:
    """As they would be typed."""
    return [f"{key}={_text(value)}" for key, value in values.items()]


def lines(brought: Mapping[str, Sequence[str]]) -> list[str]:
    """In words, a line for each choice that brings something."""
    return [f"{choice} brings: {', '.join(overrides)}" for choice, overrides in brought.items()]


@contextmanager
def told(brought: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Raises UserErrors with what was brought: what does not fit may be that, and nobody typed it."""
    try:
        yield
    except UserError as error:
        *others, last = error.args
        raise type(error)(*others, "; ".join([last, *lines(brought)])) from error


def keys_of(override: Override) -> Iterator[str]:
    """The groups and dotted keys that an override sets."""
    key = override.get_key_element().lstrip("+~")
    yield from [key] if override.is_sweep_override() else dotted(key, override.value())


def keys_set(overrides: Sequence[Override]) -> set[str]:
    """The dotted keys that they set, each to one value."""
    return {key for o in overrides if not o.is_sweep_override() for key in dotted(o.key_or_group, o.value())}


def dotted(path: str, value: Any) -> Iterator[str]:
    """The keys that setting ``path`` to ``value`` sets."""
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from dotted(f"{path}.{key}", inner)
    else:
        yield path


def _chosen(typed: Sequence[Override]) -> Iterator[tuple[Choice, str]]:
    """Typed choices, each with its name as a root."""
    for override in typed:
        group = override.key_or_group
        if group not in GROUPS or override.package is not None or override.is_delete() or override.is_sweep_override():
            continue
        value = override.value()
        for choice in value if isinstance(value, list) else [value]:
            if isinstance(choice, str):
                yield (group, choice), f"{group}=[{choice}]" if group == "defense" else f"{group}={choice}"


def _stated(group: str, choice: str, read: Read) -> Iterator[tuple[str, Any, tuple[str, ...]]]:
    """What the file brings: key, value and what settles it otherwise; judged, for it may come from a stranger."""
    stated = read(group, choice).get(KEY)
    if stated is not None and not isinstance(stated, Mapping):
        raise UserError(f"{group}={choice}: its {KEY} is no mapping; write keys with values")
    for key, value in (stated or {}).items():
        first = str(key).partition(".")[0]
        if not re.fullmatch(r"[\w.]+|dataset@prior", str(key)) or first not in (*GROUPS, "dataset@prior", "scale"):
            raise UserError(f"{group}={choice}: brings {key!r}; only components, their values and scale can be brought")
        unless: Any = ()
        if isinstance(value, Mapping) and value.keys() == {"value", "unless"}:
            value, unless = value["value"], value["unless"]
        if isinstance(value, Mapping) or not str(value).isprintable():
            raise UserError(f"{group}={choice}: brings {key}={value!r}; write a plain value, or {{value, unless: key}}")
        yield key, value, tuple(map(str, unless)) if isinstance(unless, list | tuple) else (str(unless),)


def _counts(
    offer: _Offer, named: set[str], chosen: Mapping[Choice, str], choices: Mapping[str, str], read: Read
) -> bool:
    """Whether neither the command says it, or what settles it otherwise, nor the file of a choice does."""
    if offer.key in GROUPS:
        return offer.key not in named
    if any(_is_named(key, named) or _in_file(key, choices, read) for key in offer.unless):
        return False
    if _is_named(offer.key, named):
        return False
    group = offer.key.partition(".")[0]
    if group not in choices:
        return True
    stated = _in_file(offer.key, choices, read)
    typed = not offer.own and (group, choices[group]) in chosen
    return stated is not _ABSENT and not (typed and stated)


class _Absent:
    def __bool__(self) -> bool:
        return False


_ABSENT = _Absent()


def _is_named(key: str, named: set[str]) -> bool:
    """Whether the command sets it, what it is part of, or a part of it."""
    return any(key == n or key.startswith(f"{n}.") or n.startswith(f"{key}.") for n in named - {*GROUPS})


def _in_file(key: str, choices: Mapping[str, str], read: Read) -> Any:
    """What the file of the group's choice states, if anything."""
    group, *path = key.split(".")
    node: Any = read(group, choices[group]) if group in choices else {}
    for step in path:
        node = node.get(step, _ABSENT) if isinstance(node, Mapping) else _ABSENT
    return node if path else _ABSENT


def _text(value: Any) -> str:
    """As an override writes it."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = str(value)
    if re.fullmatch(r"[\w.+-]+|\$\{[\w:.,+ -]+\}", text):
        return text
    return "'" + text.replace("'", "\\'") + "'"
