"""The logging that a configuration asks for: known handlers only, in a form that Python's logging takes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown
from privsweep.run.trust import walk

KNOWN = {  # section of a logging configuration: its keys
    "formatters": frozenset({"format", "datefmt", "()", "class", "log_colors"}),
    "handlers": frozenset({"class", "formatter", "level", "stream", "filename", "mode", "delay", "encoding"}),
    "loggers": frozenset({"level", "handlers", "propagate"}),
}
REST = frozenset({"version", "root", "disable_existing_loggers"})
CLASSES = frozenset(
    {"logging.StreamHandler", "logging.FileHandler", "logging.NullHandler", "colorlog.ColoredFormatter"}
)
STREAMS = frozenset({"ext://sys.stdout", "ext://sys.stderr"})


def check_logging(path: str, config: Mapping[str, Any]) -> None:
    """Raises UserError for what could run code, and for what Python's logging would not take."""
    for section in config:
        if section not in KNOWN and section not in REST:
            raise UserError(f"{path}.{section}: is not used here; remove it")
    if config.get("version", 1) != 1:
        raise UserError(f"{path}.version={shown(config['version'])}: must be 1")
    parts = [(f"{path}.root", config.get("root", {}), KNOWN["loggers"])]
    for section, known in KNOWN.items():
        inner = config.get(section, {})
        _check_mapping(f"{path}.{section}", inner)
        parts += [(f"{path}.{section}.{name}", part, known) for name, part in inner.items()]
    for place, part, known in parts:
        _check_mapping(place, part)
        for key, value in part.items():
            if key not in known:
                raise UserError(f"{place}.{key}: is not used here; remove it")
            if key in ("()", "class") and value not in CLASSES:
                raise UserError(f"{place}.{key}={shown(value)}: not a known log handler; remove it")
            if key == "level" and not _is_level(value):
                raise UserError(f"{place}.level={shown(value)}: no such level; choose DEBUG, INFO, WARNING or ERROR")
            if key == "format" and not _is_format(value):
                raise UserError(f"{place}.format={shown(value)}: is no format of Python's logging, as %(message)s is")
            if key == "filename" and not (isinstance(value, str) and value):
                raise UserError(f"{place}.filename={shown(value)}: must be the name of a file")
            if key == "handlers" and not _are_among(value, config.get("handlers", {})):
                raise UserError(f"{place}.handlers={shown(value)}: must be a list of {path}.handlers")
    for place, value in walk(config, path):
        if isinstance(value, str) and value.startswith(("ext://", "cfg://")) and value not in STREAMS:
            raise UserError(f"{place}={value}: may not be looked up; remove it")


def _check_mapping(path: str, part: Any) -> None:
    if not isinstance(part, Mapping):
        raise UserError(f"{path}={shown(part)}: must be keys with values; privsweep --cfg hydra shows them")


def _is_level(value: Any) -> bool:
    return isinstance(value, int) or value in logging.getLevelNamesMapping()


def _is_format(value: Any) -> bool:
    try:
        logging.Formatter(value)
    except (ValueError, TypeError):
        return False
    return True


def _are_among(names: Any, handlers: Mapping[str, Any]) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) and name in handlers for name in names)
