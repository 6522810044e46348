"""What long computations use: the device, memory-bounded chunks that survive an interruption, and progress."""

from __future__ import annotations

import glob
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
from privsweep.interface.memory import out_of_memory, release
from privsweep.interface.roles import Reduce
from privsweep.run.heartbeat import Heartbeat
from privsweep.store.rows import Rows
from privsweep.store.sealed_tensors import Notes, save_tensors, taken_tensors
from privsweep.store.spoilt import say
from privsweep.store.store import Store

QUIET_SECONDS = 15.0  # between two lines of progress where there is no terminal
KEEP_SECONDS = 120.0  # between two states of a training that are kept


class Workbench:
    """Implements ``Bench``; shows a bar in a terminal, now and then a line elsewhere."""

    def __init__(
        self,
        device: torch.device,
        store: Store,
        sign: str,
        heartbeat: Heartbeat | None = None,
        rounding: Mapping[str, Any] | None = None,
    ):
        self.device = device
        self.rounding = rounding or {}  # of products; numbers made with another are not shared
        self._tell = heartbeat.tell if heartbeat else lambda *_: None
        self.store = store
        self.partial = store.partial(sign)
        self.sizes: dict[str, int] = {}  # purpose -> chunk size, for the record
        self.earlier = 0.0  # seconds that an interrupted process spent on chunks taken over in this phase
        self.console = Console(stderr=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._spoke = self._saved = self._began = 0.0
        self._finished, self._whole = 0.0, 1.0  # of the chunks: share done before, share of this one

    def chunks(self, purpose: str, key: str, n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        results: list[Tensors] = []
        done, self.sizes[purpose] = 0, min(size, n)
        while done < n:
            kept = self._kept(f"{purpose}-{key}-{done}", n)
            if kept is None:
                began = time.perf_counter()
                kept = self._part(purpose, slice(done, n), n, make)
                path = self.partial / f"{purpose}-{key}-{done}-{kept[1]}.safetensors"
                self._save(path, kept[0], time.perf_counter() - began)
            results.append(kept[0])
            done = kept[1]
        self._finished, self._whole = 0.0, 1.0
        return {name: torch.cat([r[name] for r in results]) for name in results[0]}

    def _kept(self, stem: str, n: int) -> tuple[Tensors, int] | None:
        """The longest part that an interrupted process kept from there on, and where it stops."""
        stops = [path.stem.rpartition("-")[2] for path in self.partial.glob(f"{glob.escape(stem)}-*.safetensors")]
        for stop in sorted((int(stop) for stop in stops if stop.isdecimal()), reverse=True):
            if stop <= n and (taken := self._taken(self.partial / f"{stem}-{stop}.safetensors")) is not None:
                return taken[0], stop
        return None

    def _part(self, purpose: str, left: slice, n: int, make: Callable[[slice], Tensors]) -> tuple[Tensors, int]:
        """What ``make`` gives for the first of those that are left of ``n``, and where it stopped.

        As many as ``sizes`` says, which is halved for good where they do not fit the memory.
        """
        while True:
            part = slice(left.start, min(left.start + self.sizes[purpose], left.stop))
            count = part.stop - part.start
            self._finished, self._whole = part.start / n, count / n
            try:
                return make(part), part.stop
            except (RuntimeError, MemoryError) as error:
                if count == 1 or not out_of_memory(error):
                    raise
            release()
            self.sizes[purpose] = -(-count // 2)
            say(f"{self._phase}: {count} at once do not fit the memory; going on with {self.sizes[purpose]}")

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
        self.sizes[purpose] = min(size, n)
        path = self.partial / f"{purpose}-{key}-stream-{n}.safetensors"
        state, done, seconds = dict(start), 0, 0.0
        if (taken := self._taken(path)) is not None:
            state, notes = taken
            done, seconds = int(notes["done"]), float(notes["seconds"])
        while done < n:
            began = time.perf_counter()
            made, done = self._part(purpose, slice(done, n), n, make)
            state = dict(reduce(state, made))
            seconds += time.perf_counter() - began
            self._save(path, state, seconds, done=done)
        self._finished, self._whole = 0.0, 1.0
        return state

    def rows(self, key: Mapping[str, Any], n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        key = {**key, **self.rounding}
        name = self.store.using("rows", key)
        self.sizes["rows"] = size
        with self.store.lock(f"rows-{name}", f"waiting for another process that makes rows {name}"):
            table = Rows(self.store.root / "rows" / name, key).first(
                n, size, lambda part: self._part("rows", part, n, make)[0]
            )
        self._finished, self._whole = 0.0, 1.0
        return table

    def keep(self, purpose: str, state: Callable[[], tuple[Tensors, Mapping[str, Any]]]) -> None:
        now = time.monotonic()
        if now - self._saved < KEEP_SECONDS:
            return
        tensors, notes = state()
        self._save(self._kept_at(purpose), tensors, self.earlier + now - self._began, **notes)
        self._saved = time.monotonic()

    def kept(self, purpose: str) -> tuple[Tensors, Mapping[str, Any]] | None:
        return self._taken(self._kept_at(purpose))

    def _kept_at(self, purpose: str) -> Path:
        return self.partial / f"{purpose}-kept.safetensors"

    def _taken(self, path: Path) -> tuple[dict[str, Tensor], Notes] | None:
        """What an earlier process saved there, and the notes beside it."""
        taken = taken_tensors(path, self.device, self._key(path))
        if taken is not None:
            self.earlier += float(taken[1]["seconds"])
        return taken

    def _save(self, path: Path, result: Tensors, seconds: float, **notes: Any) -> None:
        save_tensors(path, result, self._key(path), seconds=round(seconds, 3), **notes)

    def _key(self, path: Path) -> dict[str, str]:
        return {"run": self.partial.name, "part": path.stem, "device": self.device.type}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """A stretch of work with a bar of its own, gone when it ends."""
        self._phase, self.earlier = name, 0.0
        self._spoke = self._saved = self._began = time.monotonic()
        self._tell(name, 0, 0)
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
        self._tell(self._phase, overall, total)
        text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in numbers.items())
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=overall, total=total, numbers=text)
        elif time.monotonic() - self._spoke > QUIET_SECONDS:
            self._spoke = time.monotonic()
            print(f"{self._phase}: {overall}/{total}  {text}", file=sys.stderr, flush=True)
