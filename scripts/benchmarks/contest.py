"""What a case measures: several ways to do one thing, turn about, so that a busy machine disturbs them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

Turn = Callable[[], float]  # does some of the work, and says how many units it was


class UnavailableError(Exception):
    """A case cannot be measured here; says why in one line."""


class DisagreementError(Exception):
    """The baseline and our way do not give the same result."""


@dataclass(frozen=True)
class Setup:
    """What a case is prepared for."""

    device: torch.device
    quick: bool  # smallest sizes: to see that a case works, not how fast it is
    folder: Path  # empty, of the case's own
    closing: ExitStack  # ends what the case has begun
    victims: tuple[int, ...] = ()  # attacked at once, of gradient matching; none: as suits the device
    store: Path | None = None  # stored runs for the report; None: some are made

    def sized(self, quick: int, cpu: int, gpu: int) -> int:
        return quick if self.quick else gpu if self.device.type == "cuda" else cpu


@dataclass(frozen=True)
class Contest:
    """The ways that take turns."""

    baseline: Turn
    ours: Mapping[str, Turn]  # by what tells them apart, such as "8 victims"
    floor: Turn | None = None  # units that the machine does at best, were there nothing else to do


@dataclass(frozen=True)
class Case:
    """One line of the list."""

    about: str  # the baseline, and what is measured against it
    unit: str  # what the times are of
    prepare: Callable[[Setup], Contest]  # raises UnavailableError or DisagreementError


@dataclass(frozen=True)
class Result:
    """Medians over the turns, in seconds a unit; ratios are medians, and extremes, of those within a turn."""

    variant: str
    baseline: float
    ours: float
    ratio: float
    least: float
    most: float
    floor: float | None
    turns: int
    times: Mapping[str, list[float]] = field(repr=False)  # of every turn


def measure(contest: Contest, seconds: float, device: torch.device, least: int = 3) -> list[Result]:
    """Turn about until the time is up, at least ``least`` times after a warm-up; one result a way of ours."""
    turns = {"baseline": contest.baseline, **{f"ours {name}": turn for name, turn in contest.ours.items()}}
    if contest.floor is not None:
        turns["floor"] = contest.floor
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for turn in turns.values():
        turn()
    times: dict[str, list[float]] = {kind: [] for kind in turns}
    order = list(turns.items())
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times["baseline"]) < least:
        for kind, turn in order:
            wait()
            start = time.perf_counter()
            count = turn()
            wait()
            times[kind].append((time.perf_counter() - start) / count)
        order.reverse()
    return [_result(name, times) for name in contest.ours]


def _result(name: str, times: Mapping[str, list[float]]) -> Result:
    own = {"baseline": times["baseline"], "ours": times[f"ours {name}"], "floor": times.get("floor", [])}
    ratios = sorted(b / o for b, o in zip(own["baseline"], own["ours"], strict=True))
    middle = {kind: statistics.median(spent) if spent else None for kind, spent in own.items()}
    return Result(
        name, middle["baseline"], middle["ours"], statistics.median(ratios), ratios[0], ratios[-1], middle["floor"],
        len(ratios), own,
    )  # fmt: skip
