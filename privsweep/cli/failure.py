"""What a job returns that did not come to its end."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failure:
    """A value rather than an error: Hydra's sweepers would raise that, and drop the results of other jobs."""

    reason: str
    trace: str = ""
