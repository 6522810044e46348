"""How far several runs at once are: a bar each and one for all of them in a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.text import Text

from privsweep.cli import terminal
from privsweep.cli.failure import Failure
from privsweep.interface.printable import printable
from privsweep.run.heartbeat import beats
from privsweep.run.workbench import QUIET_SECONDS
from privsweep.store import sweeps

if TYPE_CHECKING:
    from privsweep.cli.at_once import Answer

_BAR, _BESIDE, _LEAST = 40, 20, 20  # characters of a bar at most, of the numbers beside it, of a name at least
LOOK_SECONDS = 1.0  # between two looks at what runs say of themselves


class Bars:
    """Told of by the heartbeats of the runs; what a run printed is shown in one piece, when it has ended.

    ``heads``: below a line that says which run it is, where it does not say that itself.
    """

    def __init__(self, noted: Path, runs: int, heads: bool = True):
        self._output_dir, self._noted, self._runs, self._done = noted.parents[1], noted, runs, 0
        self._heads = heads
        self._console = terminal.out if terminal.out.is_terminal else terminal.err
        self.live = self._console.is_terminal
        bar = min(_BAR, self._console.width // 4)
        self._room = max(_LEAST, self._console.width - bar - _BESIDE)
        columns = (TextColumn("{task.description}"), BarColumn(bar), MofNCompleteColumn(), TimeElapsedColumn())
        self._bars = Progress(*columns, console=self._console, transient=True, disable=not self.live)
        self._all = self._bars.add_task("runs", total=runs)
        self._tasks: dict[int, TaskID] = {}
        self._known: dict[int, str] = {}  # names by number
        self._looked = self._spoke = time.monotonic()

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def came(self, answer: Answer | Failure) -> None:
        """Shows what a run printed."""
        self._done += 1
        self._bars.update(self._all, completed=self._done)
        if isinstance(answer, Failure):  # who and why is told at the end
            return
        if self._heads:
            name = escape(self._names().get(answer.number, ""))
            terminal.out.print(f"[dim]{self._done} of {self._runs}:[/] {name}", soft_wrap=True)
        for text, console in ((answer.said, terminal.out), (answer.complained.rstrip("\n"), terminal.err)):
            if text:
                shown = self._console if self.live and console.is_terminal else console
                shown.print(Text.from_ansi(text), soft_wrap=True)

    def look(self, running: Mapping[int, int]) -> None:
        """``running``: of the runs that are in work, by number, the ids of their processes."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        found = {beat.pid: beat for beat, lives in beats(self._output_dir).values() if lives}
        told = {number: found[pid] for number, pid in running.items() if pid in found}
        for number in self._tasks.keys() - told.keys():
            self._bars.remove_task(self._tasks.pop(number))
        speaks = not self.live and now - self._spoke > QUIET_SECONDS
        for number, beat in told.items():
            if number not in self._tasks:
                self._tasks[number] = self._bars.add_task("", total=None)
            what = f"{self._names().get(number, '')}: {printable(beat.phase)}"
            short = what if len(what) <= self._room else f"…{what[1 - self._room :]}"  # runs differ in the end, too
            self._bars.update(
                self._tasks[number], description=escape(short), completed=beat.done, total=beat.total or None
            )
            if speaks and beat.total:
                print(f"{what}: {beat.done}/{beat.total}", file=sys.stderr, flush=True)
        if speaks:
            self._spoke = now

    def _names(self) -> Mapping[int, str]:
        """Of the runs, in one line."""
        if not self._known and (sweep := sweeps.read(self._noted)) is not None:
            self._known = {cell.number: printable(cell.name) for cell in sweep.cells if cell.number is not None}
        return self._known
