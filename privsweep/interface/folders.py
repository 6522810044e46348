"""Folders that somebody names."""

from __future__ import annotations

import os
from pathlib import Path

from privsweep.interface.errors import UserError
from privsweep.interface.printable import shown


def check_folder(key: str, folder: Path) -> None:
    """Raises UserError where there can be none, for a file stands in its place; it need not be there."""
    for place in (folder, *folder.parents):
        if os.path.exists(place):
            if not place.is_dir():
                raise UserError(f"{key}={shown(folder)}: {shown(place)} is no folder; name another")
            return
