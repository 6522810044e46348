"""Tables by their names, those of the user's own configuration among them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from privsweep.interface.errors import UserError
from privsweep.interface.keys import check_config_dir
from privsweep.run.compose import CONF
from privsweep.run.overrides import OWN, other


def folders(config_dir: str | None) -> list[Path]:
    """Where configurations are looked for. Raises UserError where ``config_dir`` is no folder."""
    check_config_dir(config_dir)
    return [CONF, *([Path(config_dir)] if config_dir is not None else [])]


def check_tables(names: Sequence[str], config_dir: str | None) -> None:
    """Raises UserError for a table that no file describes."""
    places = folders(config_dir)
    for name in names:
        if not any((folder / "experiment" / f"{name}.yaml").is_file() for folder in places):
            own = f"; {OWN}" if config_dir is None else ""
            raise UserError(f"{name}: no such table; {other(name, tables_in(*places))}{own}")


def tables_in(*places: Path) -> list[str]:
    """The experiments below ``<folder>/experiment`` that are tables, as the command line names them."""
    names = []
    for folder in places:
        for path in sorted((folder / "experiment").rglob("*.yaml")):
            if any(line.rstrip() == "table:" for line in path.read_text(encoding="utf-8").splitlines()):
                names.append(path.relative_to(folder / "experiment").with_suffix("").as_posix())
    return names
