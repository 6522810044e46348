"""What an attack or a setting of the user's own declares of itself is looked at before anything relies on it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from typing_extensions import get_protocol_members

from privsweep.interface.defense import POINTS
from privsweep.interface.printable import shown
from privsweep.interface.records import GRANTS, Observation, ThreatModel
from privsweep.interface.roles import View

_KINDS = get_args(Observation)
_HINTS = get_type_hints(ThreatModel)
_SETS = {name: get_args(get_args(_HINTS[name])[0]) for name in ("times", "positions")}
_WORDS = {name: get_args(_HINTS[name]) for name in ("access", "security")}
_SEEN = {"time": _SETS["times"], "position": _SETS["positions"]}  # of a view


def attack_faults(made: Any) -> Iterator[str]:
    """One line for each attribute that says nothing privsweep knows: its value, and what is allowed.

    ``made`` has all attributes of an Attack. privsweep's own are left alone.
    """
    if is_ours(made):
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


def setting_faults(made: Any) -> Iterator[str]:
    """The same of a setting, and of its views."""
    if is_ours(made):
        return
    yield from _set("training_calls", made.training_calls, POINTS, empty=True)
    try:
        views = made.views()
    except Exception as error:  # it is the user's own, and so are its faults
        yield f"views: fails ({type(error).__name__}: {error}); correct it"
        return
    if not isinstance(views, Sequence) or not views:
        yield f"views: returns {shown(views)}; let it return a tuple of one view or more, such as (MyView(self),)"
        return
    for view in views:
        name = f"views: {_name(view if isinstance(view, type) else type(view))}"
        if isinstance(view, type):
            yield f"{name} is a class; let it return what the class makes, such as {view.__name__}(self)"
        elif missing := sorted(m for m in get_protocol_members(View) if not hasattr(view, m)):
            yield f"{name} has no {', '.join(missing)}; a View needs {'it' if len(missing) == 1 else 'them'}"
        elif not is_ours(view):
            yield from (f"{name}: {fault}" for fault in _view_faults(view))


def _view_faults(view: View) -> Iterator[str]:
    if view.observation not in _KINDS:
        kinds = _or([kind.__name__ for kind in _KINDS])
        yield f"observation={_name(view.observation)}: is nothing that is seen; take {kinds}"
    for name, allowed in _SEEN.items():
        if (value := getattr(view, name)) not in allowed:
            yield f"{name}={_name(value)}: take {_or(allowed)}"
    yield from _set("grants", view.grants, GRANTS, empty=True)
    yield from _set("calls", view.calls, POINTS, empty=True)


def is_ours(made: Any) -> bool:
    """Whether its class is privsweep's own."""
    return type(made).__module__.partition(".")[0] == "privsweep"


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
