"""What is kept and measured while a system is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from privsweep.interface.data import Data, Tensors
from privsweep.interface.records import System
from privsweep.interface.roles import Bench
from privsweep.metric.utility import final_utility, utility

_LATEST, _SNAPSHOT, _STATE = "latest/", "snapshot/", "state/"


def part(prefix: str, tensors: Tensors) -> dict[str, Tensor]:
    """Those under the prefix, without it."""
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Kept:
    """Of a stage of training, where another process left it."""

    done: int  # rounds
    before: int  # rounds of the stages before it
    state: Tensors


@dataclass
class Log:
    """Snapshots, the learning curve and the utility, gathered while a federation trains."""

    data: Data
    net: nn.Module
    rounds: int
    checkpoints: Sequence[int]
    bench: Bench
    every: int | None  # rounds from one measurement of the utility to the next; None: the last and checkpoints alone
    snapshots: dict[int, Tensors] = field(default_factory=dict)
    latest: Tensors = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)

    def add(self, done: int, weights: Tensors, loss: float | None = None) -> None:
        """After ``done`` rounds. Its utility costs a pass over the data, so an untrained model has none."""
        self.latest = weights
        if kept := done in (0, self.rounds) or done in self.checkpoints:
            self.snapshots[done] = {name: w.clone() for name, w in weights.items()}
        if loss is None:
            return
        looked = kept or (self.every is not None and done % self.every == 0)
        numbers = {"loss": loss, **(utility(self.net, weights, self.data) if looked else {})}
        self.curve.append({"round": done, **numbers})
        self.bench.tick(done, max(done, self.rounds), **numbers)

    def keep(self, stage: int, done: int, before: int, state: Callable[[], Tensors]) -> None:
        """As the function of that name."""
        keep([self], stage, done, before, state)

    def go_on(self, stage: int) -> Kept:
        """As the function of that name."""
        return go_on([self], stage)

    def tensors(self) -> dict[str, Tensor]:
        """The latest weights and the snapshots."""
        kept = {f"{_LATEST}{name}": t for name, t in self.latest.items()}
        return kept | {
            f"{_SNAPSHOT}{n}/{name}": t for n, weights in self.snapshots.items() for name, t in weights.items()
        }

    def take(self, tensors: Tensors, curve: Sequence[Mapping[str, float]]) -> None:
        """The way back."""
        self.latest = part(_LATEST, tensors)
        self.curve = [dict(row) for row in curve]
        for label, t in part(_SNAPSHOT, tensors).items():
            number, _, name = label.partition("/")
            self.snapshots[int(number)] = {**self.snapshots.get(int(number), {}), name: t}

    def end_with(self, weights: Tensors) -> None:
        """What training ends with, whatever was added last, and the utility of that."""
        self.snapshots[self.rounds] = {name: w.clone() for name, w in weights.items()}
        looked = not self.curve or "test_accuracy" in self.curve[-1]
        if not looked or any(not torch.equal(w, self.latest[name]) for name, w in weights.items()):
            row = self.curve.pop() if self.curve else {"round": self.rounds}
            self.curve.append({**row, **utility(self.net, weights, self.data)})

    def system(self) -> System:
        if not self.curve:
            return System(snapshots=self.snapshots, utility={})
        reached = {k: v for k, v in self.curve[-1].items() if k not in ("round", "loss")}
        last = final_utility(self.net, self.snapshots[self.rounds], self.data)
        return System(snapshots=self.snapshots, utility={**reached, **last}, curve=self.curve)


def keep(logs: Sequence[Log], stage: int, done: int, before: int, state: Callable[[], Tensors]) -> None:
    """Every few minutes, for ``go_on``: ``state`` after ``done`` rounds of a stage that began after ``before``.

    ``logs``: of systems that are trained together, on one bench.
    """

    def whole() -> tuple[dict[str, Tensor], dict[str, Any]]:
        kept = {f"{k}/{name}": t for k, log in enumerate(logs) for name, t in log.tensors().items()}
        kept |= {f"{_STATE}{name}": t for name, t in state().items()}
        return kept, {"done": done, "before": before, "curves": [log.curve for log in logs]}

    logs[0].bench.keep(f"training-{stage}", whole)


def go_on(logs: Sequence[Log], stage: int) -> Kept:
    """What an interrupted process kept of the stage, with the logs as they were then; nothing if it kept nothing."""
    taken = logs[0].bench.kept(f"training-{stage}")
    if taken is None:
        return Kept(0, len(logs[0].curve), {})
    tensors, notes = taken
    for k, (log, curve) in enumerate(zip(logs, notes["curves"], strict=True)):
        log.take(part(f"{k}/", tensors), curve)
    return Kept(int(notes["done"]), int(notes["before"]), part(_STATE, tensors))
