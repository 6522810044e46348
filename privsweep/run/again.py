"""The command that makes a stored run again, from its record: its choices, and the values that these do not have."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from privsweep.interface.keys import finding
from privsweep.run.compose import CONF

# Part of the configuration -> the key that chooses it.
_GROUPS = {name: name for name in ("dataset", "model", "fl_setting", "attack")} | {"prior": "dataset@prior"}
_NOT_SET = ("fingerprint", "_target_")  # of the data's content, and of the choice
_BARE = re.compile(r"(?!(null|true|false|inf|nan)$)[A-Za-z_][\w./-]*", re.IGNORECASE)
_ABSENT = object()


class Again:
    """Record -> command. ``config_dir`` holds the user's own choices; nothing is composed."""

    def __init__(self, config_dir: str | None):
        self.config_dir = config_dir
        self.folders = [Path(config_dir), CONF] if config_dir else [CONF]
        self._paths: dict[tuple[str, str], Path | None] = {}
        self._known: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._said: dict[tuple[str, ...], list[str]] = {}  # many runs have a part in common

    def __call__(self, record: Mapping[str, Any]) -> str:
        """In the shell's quotes. What no record names stands there as ``YOUR_FILE``, a file of the user's own, and
        ``YOUR_FOLDER``, which has the choices that are neither built in nor in ``config_dir``.
        """
        folder = self.config_dir or (None if self._all_found(record) else "YOUR_FOLDER")
        return shlex.join(["privsweep", *finding(folder), *self.overrides(record)])

    def _all_found(self, record: Mapping[str, Any]) -> bool:
        choices, names = _mapping(record, "choices"), _mapping(record, "config").get("defense_order") or ()
        chosen = [(group.partition("@")[0], choices.get(group)) for group in _GROUPS.values()]
        wanted = [*chosen, *(("defense", name) for name in names)]
        return all(choice is None or self._path(group, str(choice)) for group, choice in wanted)

    def overrides(self, record: Mapping[str, Any]) -> list[str]:
        """What Hydra is given; composed, it has the record's configuration, and so its signature."""
        choices, config = _mapping(record, "choices"), _mapping(record, "config")
        scale = str(record.get("scale", "paper"))
        names = [str(name) for name in config.get("defense_order") or ()]
        given = [f"{key}={choices[key]}" for key in _GROUPS.values() if choices.get(key) is not None]
        given += [f"defense=[{','.join(names)}]"] if names else []
        given += [f"seed={_value(config['seed'])}"] if "seed" in config else []
        given += [f"scale={_value(scale)}"] if scale != "paper" else []
        given += [f"precision={_value(config['precision'])}"] if "precision" in config else []
        for part, group in _GROUPS.items():
            given += self._differing(part, group.partition("@")[0], choices.get(group), config.get(part), scale)
        for name in names:
            value = _mapping(config, "defense").get(name)
            given += self._differing(f"defense.{name}", "defense", name, value, scale)
        return given + self._differing("metrics", ".", "config", config.get("metrics"), scale)

    def _differing(self, part: str, group: str, choice: Any, value: Any, scale: str) -> list[str]:
        """``part.key=value`` for all that the choice's file does not say."""
        key = (part, group, str(choice), scale, repr(value))
        if key not in self._said:
            self._said[key] = self._of(part, group, choice, value, scale) if isinstance(value, Mapping) else []
        return self._said[key]

    def _of(self, part: str, group: str, choice: Any, value: Mapping[str, Any], scale: str) -> list[str]:
        known = self._file(group, str(choice), scale)
        own = {k: v for k, v in _flat(value).items() if k.rpartition(".")[2] not in _NOT_SET}
        given = []
        for key, what in own.items():
            if part == "model" and key == "weights" and what is not None:
                given.append("model.weights=YOUR_FILE")
            elif _text(known.get(key, _ABSENT)) != _text(what):
                given.append(f"{'' if key in known else '++'}{part}.{key}={_value(what)}")
        needed = [key for key, what in known.items() if what == "???" and key not in own]
        return [*given, *(f"{part}.{key}=YOUR_FILE" for key in needed)]

    def _file(self, group: str, choice: str, scale: str) -> dict[str, Any]:
        """What the choice's file says at this scale; nothing where there is no such file."""
        key = (group, choice, scale)
        if key not in self._known:
            path = self._path(group, choice)
            self._known[key] = {} if path is None else _read(path, scale, "metrics" if group == "." else None)
        return self._known[key]

    def _path(self, group: str, choice: str) -> Path | None:
        if (group, choice) not in self._paths:
            paths = [folder / group / f"{choice}.yaml" for folder in self.folders]
            found = next((p for p in paths if re.fullmatch(r"[\w.-]+", choice) and p.is_file()), None)
            self._paths[group, choice] = found
        return self._paths[group, choice]


def _read(path: Path, scale: str, part: str | None) -> dict[str, Any]:
    try:
        read = OmegaConf.to_container(OmegaConf.load(path))
        node = read.get(part) if part and isinstance(read, dict) else read
        return {key: _at(value, scale) for key, value in _flat(node).items()} if isinstance(node, dict) else {}
    except (OSError, ValueError, OmegaConfBaseException):
        return {}


def _at(value: Any, scale: str) -> Any:
    """A value at this scale; what depends on anything else counts as unknown, and is stated."""
    if not isinstance(value, str) or "${" not in value:
        return value
    if not value.startswith("${at_scale:"):
        return _ABSENT
    try:
        return OmegaConf.create({"scale": scale, "value": value}).value
    except OmegaConfBaseException:
        return _ABSENT


def _flat(node: Mapping[Any, Any], path: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            out |= _flat(value, f"{path}{key}.")
        else:
            out[f"{path}{key}"] = value
    return out


def _mapping(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, Mapping) else {}


def _text(value: Any) -> str:
    """For comparison: 1, 1.0 and true differ, as they do in a signature."""
    return "" if value is _ABSENT else json.dumps(value, sort_keys=True, default=str)


def _value(value: Any) -> str:
    """As Hydra reads it."""
    if isinstance(value, str):
        if _BARE.fullmatch(value):
            return value
        quoted = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), value.replace("${", "\\${"))
        return f"'{quoted}'"
    if isinstance(value, list):
        return f"[{','.join(map(_value, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_value(item)}' for key, item in value.items())}}}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
