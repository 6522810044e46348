"""What a sweep's own command does while SLURM has its jobs: says what was submitted, and what came of each run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.markup import escape

from privsweep.cli import cluster, terminal
from privsweep.cli.follow import hints
from privsweep.cli.states import CellState, Observer
from privsweep.interface.printable import printable
from privsweep.store import sweeps

LOOK_SECONDS = 2.0  # between two looks at the folder
ASK_SECONDS = 10.0  # between two questions to SLURM
Awaited = dict[str, tuple[Path, set[int]]]  # by job: the file that it leaves at its end, and its runs' numbers


def said(
    output_dir: Path, noted: Path, jobs: Sequence[str], others: Mapping[int, sweeps.Cell], hints_too: bool
) -> None:
    """Tells what was submitted, what ``others`` have, and how to follow it."""
    if jobs:
        count = f"{len(jobs)} job{'s' * (len(jobs) != 1)}"
        terminal.out.print(f"submitted to SLURM: {count}, {', '.join(cluster.arrays(jobs))}", soft_wrap=True)
    theirs = [str(cell.job) for cell in others.values()]
    if theirs:
        terminal.out.print(
            f"left to jobs that have them already: {len(theirs)} run{'s' * (len(theirs) != 1)}, "
            f"{', '.join(cluster.arrays(theirs))}; to submit them anew, stop those jobs first",
            soft_wrap=True,
        )
    sweep = sweeps.read(noted)
    for line in hints(sweep, output_dir, [*jobs, *theirs]) if sweep and hints_too else []:
        terminal.out.print(escape(printable(line)), soft_wrap=True)


def wait(
    own: Awaited, theirs: Awaited, noted: Path, output_dir: Path, fail_fast: bool,
    tell: Callable[[CellState, str], None],
) -> None:  # fmt: skip
    """Until every job has ended; tells of each run what became of it as its job ends.

    ``own`` were submitted for this sweep, ``theirs`` for others.
    """
    sweep = sweeps.read(noted)
    assert sweep is not None
    open_jobs = {**own, **theirs}
    numbers, asked, told = {job: runs for job, (_, runs) in open_jobs.items()}, 0.0, 0
    absent = dict.fromkeys(open_jobs, 0)
    try:
        while open_jobs:
            time.sleep(LOOK_SECONDS)
            if time.monotonic() - asked > ASK_SECONDS:
                live, asked = cluster.waiting_and_running(sweep.user), time.monotonic()
                if live is not None:
                    absent = {job: 0 if job in live else absent[job] + 1 for job in open_jobs}
            ends = {i for i, (result, _) in open_jobs.items() if result.exists() or absent[i] > 1}
            states = Observer(output_dir).states(sweep, noted) if ends else []
            # What became of a run that filed nothing is known once SLURM has let its job go.
            held = {s.cell.job for s in states if not s.over and absent.get(s.cell.job or "", 2) < 2}
            wanted = {n for i in ends - held for n in numbers[i]}
            open_jobs = {i: job for i, job in open_jobs.items() if i not in ends - held}
            for state in states:
                if state.cell.number in wanted:
                    told += 1
                    tell(state, f"{told} of {sum(map(len, numbers.values()))}")
                    if fail_fast and state.state != "done" and not sweeps.stopped(noted):
                        sweeps.stop(noted)
                        cluster.cancel_waiting(own)
    except KeyboardInterrupt:
        terminal.out.print("the jobs go on without this command")
        raise


def of_others(others: Mapping[int, sweeps.Cell], output_dir: Path) -> Awaited:
    """The jobs that other sweeps submitted."""
    made: Awaited = {}
    for number, cell in others.items():
        job, folder = str(cell.job), output_dir / str(cell.logs)
        made.setdefault(job, (folder.parent / ".submitit" / job / f"{job}_0_result.pkl", set()))[1].add(number)
    return made


def tell(found: CellState, count: str) -> None:
    if found.state == "done":
        terminal.out.print(f"done: {escape(printable(found.cell.name))} ({count})", soft_wrap=True)
    else:
        terminal.failed(found.cell.name, found.detail, found.log)
