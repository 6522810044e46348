"""What an attack of the user's own declares of itself is looked at before anything relies on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from privsweep.interface.printable import shown
from privsweep.interface.records import GRANTS, Observation, ThreatModel

_KINDS = get_args(Observation)
_HINTS = get_type_hints(ThreatModel)
_SETS = {name: get_args(get_args(_HINTS[name])[0]) for name in ("times", "positions")}
_WORDS = {name: get_args(_HINTS[name]) for name in ("access", "security")}


def attack_faults(made: Any) -> Iterator[str]:
    """One line for each attribute that says nothing privsweep knows: its value, and what is allowed.

    ``made`` has all attributes of an Attack. privsweep's own are left alone.
    """
    if type(made).__module__.partition(".")[0] == "privsweep":
        return
    if made.observes is not None and made.observes not in _KINDS:
        yield f"observes={_name(made.observes)}: is nothing that is seen; take {_or([k.__name__ for k in _KINDS])}"
    for name in ("needs", "prepares_from"):
        yield from _set(name, getattr(made, name), GRANTS, empty=True)
    threat = made.threat
    if not isinstance(threat, ThreatModel):
        order = ", ".join(field.name for field in fields(ThreatModel))
        yield f"threat={_name(threat)}: is no ThreatModel; write privsweep.ThreatModel({order})"
        return
    for name, allowed in _SETS.items():
        yield from _set(f"threat.{name}", getattr(threat, name), allowed, empty=False)
    for name, allowed in _WORDS.items():
        if (value := getattr(threat, name)) not in allowed:
            yield f"threat.{name}={_name(value)}: take {_or(allowed)}"


def _set(name: str, value: Any, allowed: Collection[str], empty: bool) -> Iterator[str]:
    if not isinstance(value, frozenset | set):
        yield f"{name}={_name(value)}: is no set; write frozenset({{...}}) with some of {', '.join(sorted(allowed))}"
    elif strange := sorted(map(_name, value - frozenset(allowed))):
        yield f"{name}={strange[0]}: take some of {', '.join(sorted(allowed))}"
    elif not value and not empty:
        yield f"{name} is empty; take some of {', '.join(sorted(allowed))}"


def _name(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else shown(value)


def _or(words: Collection[str]) -> str:
    return " or ".join([", ".join([*words][:-1]), [*words][-1]])
