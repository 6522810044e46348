"""A batch of a search's trials, as a launcher is given it: which of them need a job, and what all of them came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from privsweep.cli import trials
from privsweep.cli.trials import Trial, Trials
from privsweep.store import sweeps

Run = tuple[list[str], int]  # overrides and number


@dataclass(frozen=True)
class Batch:
    """Trials that were proposed together; their jobs write down what they came to."""

    search: Trials
    folder: Path  # of the search; a trial's own is named by its number
    numbers: Sequence[int]
    jobs: Mapping[str, Run]  # signature of a run that is to be done -> the trial that does it
    twins: Mapping[int, int]  # trial -> another one of the same values, which has the job

    @classmethod
    def begun(cls, search: Trials, runs: Sequence[Run], folder: Path, noted: Path, fail_fast: bool) -> Batch:
        """Tells the trials that need no job, for they are stored, refused or left out, and notes the others' runs."""
        jobs, twins, cells = dict[str, Run](), dict[int, int](), list[sweeps.Cell]()
        for typed, number in runs:
            if sweeps.stopped(noted):
                break
            found = search.settled(typed, number)
            if isinstance(found, Trial):
                search.tell(found, folder / str(number))
                cells += [found.cell] if found.cell else []
                if found.error and (found.hopeless or fail_fast):
                    sweeps.stop(noted)
            elif found.signature in jobs:
                twins[number] = jobs[found.signature][1]
            else:
                jobs[found.signature] = (typed, number)
                cells.append(found)
        sweeps.add(noted, cells, len(runs))
        return cls(search, folder, [n for _, n in runs], {} if sweeps.stopped(noted) else jobs, twins)

    @property
    def todo(self) -> list[Run]:
        """The trials that need a job."""
        return [*self.jobs.values()]

    def lost(self, number: int, reason: str) -> None:
        """Tells of a trial that could not write down itself what it came to."""
        sign, typed = next((sign, typed) for sign, (typed, own) in self.jobs.items() if own == number)
        self.search.tell(Trial(number, self.search.chosen(typed), sign, None, reason), self.folder / str(number))

    def values(self) -> list[float | None]:
        """Of all its trials, once the jobs have ended; None of one that has none."""
        for number, other in self.twins.items():
            if (one := trials.read(self.folder / str(other))) is not None:
                self.search.tell(replace(one, number=number), self.folder / str(number))
        found = (trials.read(self.folder / str(number)) for number in self.numbers)
        return [one.value if one else None for one in found]
