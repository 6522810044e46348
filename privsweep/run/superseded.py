"""What of a store is of no more use to any command, and why."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, get_origin

from pydantic import ValidationError

from privsweep.interface.component import marked
from privsweep.interface.errors import UserError
from privsweep.run.run_spec import GROUPS, signed
from privsweep.run.trust import check_component, class_of, trusted
from privsweep.store.inventory import SHARED, Entry, record_in, under_way
from privsweep.store.store import Record, signature

_DAY = 86400.0
_PLACES = ("data_dir", "path")  # keys of a dataset that no result depends on, so records lack them


def superseded(
    root: Path, entries: Sequence[Entry], days: float, wanted: Set[tuple[str, str]] = frozenset()
) -> tuple[list[tuple[Entry, str]], str | None]:
    """The entries that can go, each with the reason; and why nothing that runs share is among them, or None.

    These are runs that no command finds any more, for the code has changed; what is left of runs that are complete
    by now; logs and unfinished work older than ``days``; what could not be read; and what several runs share, but no
    stored one uses, unless a run is under way or waits to go on and may use it.

    wanted: what sweeps that are under way need of logs, notes and unfinished work, by folder and name.
    """
    now = time.time()
    running = under_way(root)
    judge = Judge()
    complete: dict[str, Record | None] = {}
    found: list[tuple[Entry, str]] = []
    waiting = {name for kind, name in wanted if kind == "partial"} - {*running}
    for entry in entries:
        age = (now - entry.changed) / _DAY
        old = f"older than {days:g} days" if age > days else None
        reason = None
        if entry.spoilt:
            reason = "set aside, for it could not be read"
        elif entry.draft:
            reason = "left behind by a killed process" if age > 1 else None
        elif entry.kind == "runs":
            record = record_in(entry.path)
            own = record is not None and record.get("signature") == entry.name
            reason = judge(record) if record and own else "its record cannot be read"
            if reason is None:
                complete[entry.name] = record
        elif entry.kind in ("partial", "failed"):
            record = record_in(entry.path) if entry.kind == "failed" else None
            reason = "the run is complete by now" if entry.name in complete else (record and judge(record)) or old
            if reason is None:
                waiting.add(entry.name)
        elif entry.kind in ("logs", "sweeps"):
            reason = old
        if reason and entry.name not in running and (entry.kind, entry.name) not in wanted:
            found.append((entry, reason))
    told = [uses for record in complete.values() if record and isinstance(uses := record.get("uses"), dict)]
    if running or waiting:
        return found, f"{len(running)} runs are under way and {len(waiting)} unfinished, which may use them"
    if len(told) < len(complete):
        return found, f"{len(complete) - len(told)} stored runs do not say what they use"
    return [*found, *_unused(entries, told)], None


def _unused(entries: Sequence[Entry], told: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Entry, str]]:
    used = {(kind, str(name)) for uses in told for kind in SHARED for name in uses.get(kind) or []}
    for entry in entries:
        if entry.kind in SHARED and not entry.draft and not entry.spoilt and (entry.kind, entry.name) not in used:
            yield entry, "no stored run uses it"


class Judge:
    """Whether commands still find a record. Components that many records share are built once."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[Any, str | None]] = {}

    def __call__(self, record: Record) -> str | None:
        """Why no command does, or None; None too for components that are not privsweep's own."""
        config = record["config"]
        defenses = config.get("defense")
        nodes = {key: config.get(key) for key in GROUPS}
        nodes |= {f"defense.{k}": v for k, v in defenses.items()} if isinstance(defenses, Mapping) else {}
        targets = [str(node["_target_"]) for node in nodes.values() if isinstance(node, Mapping) and "_target_" in node]
        if any(not target.startswith("privsweep.") for target in targets):
            return None
        try:
            return self._fault(record, nodes)
        except (AttributeError, KeyError, TypeError, ValueError) as error:  # no plain data, or parts in wrong places
            return f"its configuration cannot be read: {error}"

    def _fault(self, record: Record, nodes: Mapping[str, Any]) -> str | None:
        made = {key: self._component(key, node) for key, node in nodes.items() if node is not None}
        fault = next((fault for _, fault in made.values() if fault), None)
        if fault:
            return f"the code has changed: {fault}"
        parts = {key: part for key, (part, _) in made.items()}
        defenses = {key.removeprefix("defense."): part for key, part in parts.items() if key.startswith("defense.")}
        sign = signed(record["config"], {**parts, "defense": defenses})
        return None if sign == record.get("signature") else "the code has changed: it files this configuration anew"

    def _component(self, key: str, node: Any) -> tuple[Any, str | None]:
        known = signature({key: node})
        if known not in self._made:
            try:
                self._made[known] = _built(key, node), None
            except (UserError, ValidationError) as error:
                self._made[known] = None, _why(key, error)
        return self._made[known]


def _built(key: str, node: Any) -> Any:
    """The component as a run had it, but for its weights and for where its data lie."""
    check_component(key, node)
    if not isinstance(node, Mapping):
        raise UserError(f"{key}={node}: is no component")
    cls: Any = class_of(key, str(node.get("_target_")), trusted())
    own = {k: v for k, v in node.items() if k not in ("_target_", "fingerprint")}
    plain = {k: _built(f"{key}.{k}", v) if isinstance(v, Mapping) and "_target_" in v else v for k, v in own.items()}
    weights = plain.pop("weights", None) if key == "model" else None
    made = cls(**{place: "." for place in _PLACES if place in cls.__pydantic_fields__}, **{**_zeros(cls), **plain})
    return None if weights else made


def _zeros(cls: Any) -> dict[str, Any]:
    """What a record may lack that is older than the key, for at zero the key enters no hash."""
    annotations = {name: cls.__pydantic_fields__[name].annotation for name in marked(cls, "zero")}
    return {name: [] if get_origin(kind) is list else 0 for name, kind in annotations.items()}


def _why(key: str, error: UserError | ValidationError) -> str:
    if isinstance(error, UserError):
        return str(error).splitlines()[0]
    first = error.errors()[0]
    words = {"unexpected_keyword_argument": "is no key any more", "missing": "is a new key"}
    return f"{'.'.join(map(str, (key, *first['loc'])))} {words.get(first['type'], first['msg'])}"
