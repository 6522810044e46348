"""What hands finished runs to a tracker of experiments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol


class Tracker(Protocol):
    """A choice of the ``tracker`` group. No result depends on it."""

    package: ClassVar[str]  # that must be installed

    def remote(self) -> Mapping[str, str]:
        """Values by key that lead out of the machine or name a folder; a file may name folders of results only."""
        ...

    def log(self, record: Mapping[str, Any], folder: Path) -> None:
        """Hands over a complete run: its record, and the folder that holds it, its tables and its pictures."""
        ...
