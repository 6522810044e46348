"""Runs as the page's script reads them: plain JSON, in which what many runs have in common stands once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from privsweep.interface.printable import printable
from privsweep.interface.utility import with_finals
from privsweep.report.in_words import threat_in_words
from privsweep.report.page.curves import objective, roc, sentences, short, training
from privsweep.report.page.pictures import preview
from privsweep.report.summary import MAIN
from privsweep.table.fill import Record

# What tells how much leaks: 1 where more of it is worse for privacy, -1 where less is.
LEAKAGE = {
    "ssim": 1, "psnr": 1, "mse": -1, "asr": 1, "recovered": 1, "below_oracle": 1, "reconstruction_auc": 1,
    "auc": 1, "attack_accuracy": 1, "balanced_accuracy": 1, "tpr_at_1_fpr": 1, "tpr_at_01_fpr": 1,
    "empirical_epsilon": 1, "gaussian_epsilon": 1, "property_auc": 1, "property_accuracy": 1,
    "token_accuracy": 1, "exact": 1, "overlap": 1, "bleu": 1,
}  # fmt: skip
UTILITY = {"final_test_accuracy": 1, "test_accuracy": 1, "bleu": 1, "validation_loss": -1, "train_accuracy": 1}
_GROUPS = ("dataset", "prior", "model", "fl_setting", "attack", "defense", "metrics")
_CHOICES = ("attack", "dataset", "model", "fl_setting")
_DEEPEST = 6  # levels of a configuration
_LONGEST = 2000  # characters of a value

Lookup = Callable[[str], Path]
Command = Callable[[Record], str]


def payload(records: Sequence[Record], folder: Lookup, command: Command) -> dict[str, Any]:
    """``runs``, newest first; ``parts``, pieces of configurations, and ``names``, lists of metrics, that they refer to.

    ``folder``: signature -> the run's folder; ``command``: record -> what makes the run again.
    """
    parts, names = _Pool(), _Pool()
    newest = sorted(records, key=lambda r: _text(_mapping(r, "environment").get("date", "")), reverse=True)
    runs = [_run(record, folder(str(record["signature"])), command, parts, names) for record in newest]
    return {"runs": runs, "parts": parts.items, "names": names.items, "leakage": LEAKAGE, "utility": UTILITY}


class _Pool:
    """Things that are kept once each, told by their number."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._numbers: dict[str, int] = {}

    def number(self, item: Any) -> int:
        key = repr(item)
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(item)
        return self._numbers[key]


def _run(record: Record, folder: Path, command: Command, parts: _Pool, names: _Pool) -> dict[str, Any]:
    config, environment = _mapping(record, "config"), _mapping(record, "environment")
    groups = {name: config[name] for name in _GROUPS if config.get(name)}
    rest = {k: v for k, v in config.items() if k not in (*_GROUPS, "seed", "defense_order")}
    about = {k: _line(v) for k, v in environment.items() if k not in ("date", "commit") and v not in (None, {})}
    sizes = {str(k).replace("_", " "): v for k, v in _mapping(record, "sizes").items()}
    others = {k: _line(v) for k, v in (("adversary_data", record.get("adversary_data")), ("sizes", sizes)) if v}
    if threat := _mapping(record, "threat_model"):
        others = {"threat_model": _threat(threat), **others}
    files = sorted(p.name for p in folder.iterdir() if p.is_file()) if folder.is_dir() else []
    run = {
        "id": _text(record["signature"]),
        "status": _text(record.get("status", "?")),
        "error": _text(record.get("error") or ""),
        "scale": _text(record.get("scale", "?")),
        "seed": _text(config.get("seed", "?")),
        "date": _text(environment.get("date", "")),
        "commit": _text(environment.get("commit") or ""),
        "choices": _choices(record),
        "system": _text(_mapping(record, "uses").get("systems") or ""),
        "parts": [parts.number(_flat(part)) for part in ({k: v} for k, v in (groups | rest).items())],
        "about": [parts.number(_flat(part)) for part in (others, about) if part],
        "metrics": _numbers(_metrics(record), names),
        "utility": _numbers(with_finals(_mapping(record, "utility")), names),
        "privacy": _numbers(_flat(_mapping(record, "privacy")), names),
        "seconds": _numbers(_mapping(record, "seconds"), names),
        "command": printable(command(record)),
        "files": [printable(name) for name in files],
        "picture": preview(folder),
        "objective": objective(folder),
        "training": training(folder),
        "roc": roc(folder),
        "sentences": sentences(folder),
    }
    return {key: value for key, value in run.items() if value not in (None, "", [], {})}


def _choices(record: Record) -> dict[str, str]:
    """Group -> choice; several defences in one word."""
    choices = _mapping(record, "choices")
    defenses = choices.get("defense")
    named = {group: _text(choices.get(group, "?")) for group in _CHOICES}
    named["defense"] = "+".join(map(_text, defenses)) if isinstance(defenses, list) and defenses else "none"
    further = {"prior": choices.get("dataset@prior"), "experiment": choices.get("experiment")}
    return named | {name: _text(choice) for name, choice in further.items() if choice}


def _metrics(record: Record) -> dict[str, Any]:
    """The main ones first, those of single answers last."""
    metrics, answers = _mapping(record, "metrics"), record.get("answers")
    endings = tuple(f"_{answer}" for answer in answers) if isinstance(answers, list) else ()

    def rank(name: str) -> tuple[bool, bool, int]:
        main = MAIN.index(name) if name in MAIN else len(MAIN)
        return name.endswith(endings) if endings else False, "_paper" in name, main

    return {name: metrics[name] for name in sorted(map(str, metrics), key=rank) if name in metrics}


def _numbers(values: Mapping[str, Any], names: _Pool) -> list[Any]:
    """The number of the list of names, then the values."""
    if not values:
        return []
    return [names.number([printable(str(name)) for name in values]), *map(_value, values.values())]


def _value(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    return short(value, 6) if isinstance(value, int | float) else _text(value)


def _flat(node: Mapping[Any, Any], path: str = "", depth: int = 0) -> dict[str, Any]:
    """Dotted key -> value; lists are values."""
    out: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{path}{printable(str(key))}"
        if isinstance(value, Mapping) and value and depth < _DEEPEST:
            out |= _flat(value, f"{name}.", depth + 1)
        elif not name.endswith("_target_"):
            out[name] = _value(value)
    return out


def _text(value: Any) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return ", ".join(map(_text, value))
    return printable(str(value))[:_LONGEST]


def _threat(threat: Mapping[str, Any]) -> str:
    """In words; as it stands where it is not as we write it."""
    try:
        return _text(threat_in_words(threat))
    except KeyError:
        return _line(threat)


def _line(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _text([f"{k} {_text(v)}" for k, v in value.items()] if isinstance(value, Mapping) else value)


def _mapping(node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = node.get(key)
    return value if isinstance(value, Mapping) else {}
