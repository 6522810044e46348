"""What long computations use: the device, memory-bounded chunks that survive an interruption, and progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.roles import Reduce
from privsweep.store.rows import Rows
from privsweep.store.sealed import Notes, save_tensors, taken_tensors
from privsweep.store.store import Store, signature

QUIET_SECONDS = 15.0  # between two lines of progress where there is no terminal


class Workbench:
    """Implements ``Bench``; shows a bar in a terminal, now and then a line elsewhere."""

    def __init__(self, device: torch.device, store: Store, sign: str):
        self.device = device
        self.store = store
        self.partial = store.partial(sign)
        self.sizes: dict[str, int] = {}  # purpose -> chunk size, for the record
        self.earlier = 0.0  # seconds that an interrupted process spent on chunks taken over in this phase
        self.console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._spoke = 0.0
        self._began: dict[str, float] = {}  # purpose -> when its present part did
        self._finished, self._whole = 0.0, 1.0  # of the chunks: share done before, share of this one

    def chunks(self, purpose: str, key: str, n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        results = []
        for part in self.parts(purpose, n, size):
            found = self.kept(purpose, key, part)
            if found is None:
                found = make(part)
                self.keep(purpose, key, part, found)
            results.append(found)
        return {name: torch.cat([r[name] for r in results]) for name in results[0]}

    def parts(self, purpose: str, n: int, size: int) -> Iterator[slice]:
        """Slices of ``range(n)``, at most ``size`` long; progress between two of them counts as that of a part."""
        self.sizes[purpose] = size = min(size, n)
        for start in range(0, n, size):
            part = slice(start, min(start + size, n))
            self._finished, self._whole = start / n, (part.stop - part.start) / n
            self._began[purpose] = time.perf_counter()
            yield part
        self._finished, self._whole = 0.0, 1.0

    def stream(
        self,
        purpose: str,
        key: str,
        n: int,
        size: int,
        make: Callable[[slice], Tensors],
        reduce: Reduce,
        start: Tensors,
    ) -> Tensors:
        self.sizes[purpose] = size = min(size, n)
        path = self.partial / f"{purpose}-{key}-stream-{n}.safetensors"
        state, done, seconds = dict(start), 0, 0.0
        if (taken := self._taken(path)) is not None:
            state, notes = taken
            done, seconds = int(notes["done"]), float(notes["seconds"])
        while done < n:
            part = slice(done, min(done + size, n))
            self._finished, self._whole = done / n, (part.stop - part.start) / n
            began = time.perf_counter()
            state = dict(reduce(state, make(part)))
            done, seconds = part.stop, seconds + time.perf_counter() - began
            self._save(path, state, seconds, done=done)
        self._finished, self._whole = 0.0, 1.0
        return state

    def rows(self, key: Mapping[str, Any], n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        name = signature(key)

        def counted(part: slice) -> Tensors:
            self._finished, self._whole = part.start / n, (part.stop - part.start) / n
            return make(part)

        with self.store.lock(f"rows-{name}", f"waiting for another process that makes rows {name}"):
            table = Rows(self.store.root / "rows" / name, key).first(n, size, counted)
        self._finished, self._whole = 0.0, 1.0
        return table

    def kept(self, purpose: str, key: str, part: slice) -> Tensors | None:
        """What an interrupted process kept of a part."""
        taken = self._taken(self._place(purpose, key, part))
        return None if taken is None else taken[0]

    def keep(self, purpose: str, key: str, part: slice, result: Tensors) -> None:
        """Saves a finished part, with the seconds since it began."""
        self._save(self._place(purpose, key, part), result, time.perf_counter() - self._began[purpose])

    def _place(self, purpose: str, key: str, part: slice) -> Path:
        return self.partial / f"{purpose}-{key}-{part.start}-{part.stop}.safetensors"

    def _taken(self, path: Path) -> tuple[dict[str, Tensor], Notes] | None:
        """What an earlier process saved there, and the notes beside it."""
        taken = taken_tensors(path, self.device, self._key(path))
        if taken is not None:
            self.earlier += float(taken[1]["seconds"])
        return taken

    def _save(self, path: Path, result: Tensors, seconds: float, **notes: Any) -> None:
        save_tensors(path, result, self._key(path), seconds=round(seconds, 3), **notes)

    def _key(self, path: Path) -> dict[str, str]:
        return {"run": self.partial.name, "part": path.stem}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A stretch of work with a bar of its own, gone when it ends."""
        self._phase, self._spoke, self.earlier = name, time.monotonic(), 0.0
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console, transient=True) as self._bar:
            self._task = self._bar.add_task(name, total=None, numbers="")
            yield
        self._bar = self._task = None

    def tick(self, done: int, total: int, **numbers: float) -> None:
        overall = done if self._whole == 1 else round(total * (self._finished + self._whole * done / total))
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in numbers.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=overall, total=total, numbers=text)
        elif time.monotonic() - self._spoke > QUIET_SECONDS:
            self._spoke = time.monotonic()
            print(f"{self._phase}: {overall}/{total}  {text}", file=sys.stderr, flush=True)
