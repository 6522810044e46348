"""What all views have in common that show updates and ask something about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from privsweep.exposure.updates import UpdateView
from privsweep.interface.records import Schedule


@dataclass(frozen=True)
class AboutUpdates:
    """The updates of an ``UpdateView``, whose labels are nobody's knowledge."""

    captured: UpdateView

    reports: ClassVar[frozenset[str]] = frozenset()
    time: ClassVar[Literal["train", "test"]] = "train"

    @property
    def position(self) -> Literal["client", "server"]:
        return self.captured.position

    @property
    def told(self) -> frozenset[str]:
        """Names of Knowledge that come with the updates."""
        return self.captured.grants - {"labels"}

    @property
    def calls(self) -> frozenset[str]:
        return self.captured.calls

    @property
    def version(self) -> int:
        return self.captured.version

    @property
    def message(self) -> Schedule:
        return self.captured.message
