"""What a choice brings with it: the setting, the model or the data that an attack needs, where the user named none.

A file of a group may state them, beside its values:

    brings: {fl_setting: split, model: lenet, dataset.prior_size: 400}

They count as if they had been typed, and are said. What was typed stays, and so does what the file of a typed choice
states: there, only null, 0 and false are filled. Where it brings other values too, a typed choice changes its own only
if one of the others counts: who typed all that it needs gets the file's. An experiment states everything itself, so
nothing is brought to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.override_parser.types import Override

from privsweep.interface.errors import UserError

KEY = "brings"
GROUPS = ("defense", "attack", "fl_setting", "model", "dataset")  # what the earlier one brings counts first
SETTLED = {  # by what else a key is settled: another way to meet the need, or an amount that it goes with
    "dataset.prior_size": ("dataset@prior", "fl_setting.training_data_known"),
    "dataset.train_size": ("dataset.prior_size", "dataset@prior"),
    "attack.labels": ("fl_setting.labels_known",),
}

Brought = dict[str, list[str]]  # by what was typed, such as attack=iga, the overrides that it brings
Read = Callable[[str, str], Mapping[str, Any]]  # what the file of a group's choice states, not resolved
Choice = tuple[str, str]  # group and choice


@dataclass(frozen=True)
class _Offer:
    """One companion, before it is known whether it counts."""

    source: Choice
    root: str  # the typed choice that led to the source, such as attack=iga
    key: str
    value: Any

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
        group = offer.key.partition(".")[0]
        filled = not offer.own and any(group == typed_group for typed_group, _ in chosen)
        if offer.key not in counting and not _is_said(offer.key, filled, named, choices, read):
            counting[offer.key] = offer
    brought: Brought = {}
    for offer in counting.values():
        others = [o for o in offers if o.source == offer.source and not o.own]
        complete = others and not any(counting.get(o.key) is o for o in others)
        if not (offer.own and offer.source in chosen and complete):
            brought.setdefault(offer.root, []).append(f"{offer.key}={_text(offer.value)}")
    return brought


def _offers(chosen: Mapping[Choice, str], named: set[str], read: Read) -> tuple[list[_Offer], Mapping[str, str]]:
    """Companions of the chosen and of what these bring, groups first, and the choice of every group by then."""
    roots = dict(chosen)
    taken, groups, values = {*named}, [], []
    queue = [*roots]
    for source in queue:  # grows
        for key, value in _stated(*source, read).items():
            offer = _Offer(source, roots[source], key, value)
            (groups if key in GROUPS else values).append(offer)
            if key in GROUPS and key not in taken:
                taken.add(key)
                further = [(key, str(one)) for one in (value if isinstance(value, list) else [value])]
                roots |= dict.fromkeys(further, offer.root)
                queue += further
    return groups + values, {group: name for group, name in roots if group != "defense"}


def lines(brought: Mapping[str, Sequence[str]]) -> list[str]:
    """In words, a line for each choice that brings something."""
    return [f"{choice} brings: {', '.join(overrides)}" for choice, overrides in brought.items()]


def keys_of(override: Override) -> Iterator[str]:
    """The groups and dotted keys that an override sets."""
    key = override.get_key_element().lstrip("+~")
    yield from [key] if override.is_sweep_override() else dotted(key, override.value())


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


def _stated(group: str, choice: str, read: Read) -> Mapping[str, Any]:
    """What the file brings, judged: it may come from a stranger."""
    stated = read(group, choice).get(KEY)
    if stated is None:
        return {}
    if not isinstance(stated, Mapping):
        raise UserError(f"{group}={choice}: its {KEY} is no mapping; write keys with values")
    for key, value in stated.items():
        first = str(key).partition(".")[0]
        if not re.fullmatch(r"[\w.]+|dataset@prior", str(key)) or first not in (*GROUPS, "dataset@prior", "scale"):
            raise UserError(f"{group}={choice}: brings {key!r}; only components, their values and scale can be brought")
        if isinstance(value, Mapping) or not str(value).isprintable():
            raise UserError(f"{group}={choice}: brings {key}={value!r}; write a plain value, or a list")
    return stated


def _is_said(key: str, filled: bool, named: set[str], choices: Mapping[str, str], read: Read) -> bool:
    """Whether the command says it, or the file of a choice does; ``filled``: that file states the key, but empty."""
    if key in GROUPS:
        return key in named
    for way in (key, *SETTLED.get(key, ())):
        if any(way == name or way.startswith(f"{name}.") or name.startswith(f"{way}.") for name in named - {*GROUPS}):
            return True
        if way != key or filled:
            group, _, path = way.partition(".")
            node: Any = read(group, choices[group]) if group in choices else {}
            for step in path.split("."):
                node = node.get(step, _ABSENT) if isinstance(node, Mapping) else _ABSENT
            if (node is _ABSENT and way == key) or (node is not _ABSENT and node):
                return True
    return False


_ABSENT = object()


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
