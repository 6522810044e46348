"""What a result depends on, as plain data: the configuration, with files represented by their content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from privsweep.interface.contents import Contents
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.printable import shown
from privsweep.model.checkpoint import FromCheckpoint
from privsweep.run.placed_words import named_as
from privsweep.run.run_spec import GROUPS, signed
from privsweep.store.checksums import Checksums
from privsweep.store.store import Store


def identity_of(config: Mapping[str, Any], parts: Mapping[str, Any], fetch: bool, force: bool) -> dict[str, Any]:
    """The identity of a run whose configuration was built into ``parts``, by its keys.

    A stored result is found without its data, unless it is made again by ``force``; any other run gets its data first
    with ``fetch``.
    """
    try:
        known = _identity(config, parts, fetch=False)
        stored = Store(Path(config["output_dir"])).complete(signed(known, parts))
        if not fetch or (stored and not force):
            return known
    except AbsentError:
        if not fetch:
            raise
    return _identity(config, parts, fetch)


def _identity(config: Mapping[str, Any], parts: Mapping[str, Any], fetch: bool) -> dict[str, Any]:
    """The configuration less what cannot change a result; files count by content, not by place."""
    kept: dict[str, Any] = {
        key: _declared(config.get(key), parts.get(key)) for key in (*GROUPS, "defense", "metrics", "seed")
    }
    kept["defense"] = dict(kept["defense"] or {})
    if config["precision"] != "float32":  # which no record states
        kept["precision"] = config["precision"]
    checksums = Checksums(Path(config["output_dir"]))
    for key in ("dataset", "prior", "fl_setting"):
        if kept[key] is not None and isinstance(parts[key], Contents):
            places = {k: v for k, v in kept[key].items() if k not in ("data_dir", "path")}
            with named_as(key):
                kept[key] = {**places, "fingerprint": _checksum(checksums, key, parts[key], fetch)}
    if isinstance(parts["model"], FromCheckpoint):
        kept["model"] = {
            **kept["model"],
            "weights": _checksum(checksums, "model.weights", parts["model"].checkpoint, fetch),
        }
    # A dictionary is unordered once it is JSON with sorted keys, and the order of defences matters.
    kept["defense_order"] = list(kept["defense"])
    return kept


def _declared(node: Any, made: Any) -> Any:
    """Numbers as ``made`` has them, which was built from ``node``: of a field, 1, 1.0 and "1" are one value, as are
    false, 0, no and off.
    """
    if isinstance(made, FromCheckpoint):
        return _declared(node, made.architecture)
    if isinstance(node, Mapping):
        own = made if isinstance(made, Mapping) else vars(made) if hasattr(made, "__dict__") else {}
        return {key: _declared(value, own.get(key)) for key, value in node.items()}
    if isinstance(node, list) and isinstance(made, list | tuple) and len(node) == len(made):
        return [_declared(value, built) for value, built in zip(node, made, strict=True)]
    return made if isinstance(made, int | float) and node is not None else node


def _checksum(checksums: Checksums, key: str, source: Contents, fetch: bool) -> str:
    """Of the files of ``key``; raises UserError for a name that no file can have, or one that may not be read."""
    try:
        return checksums.of(source, fetch)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        place = f" {shown(error.filename)}" if isinstance(error, OSError) and error.filename else ""
        raise UserError(f"{key}:{place} cannot be read ({reason}); correct the path, or its permissions") from error
