"""A search: Optuna's sweeper chooses values as it goes, and every trial is checked when it comes."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from privsweep.cli import jobs, terminal
from privsweep.cli.combinations import applied
from privsweep.cli.results import file_summary
from privsweep.cli.search_space import drawn, numeric
from privsweep.cli.sweep import SweepPlan
from privsweep.cli.trials import Trial, Trials, every
from privsweep.interface.errors import UserError
from privsweep.interface.keys import finding
from privsweep.report.markdown import pipe_table
from privsweep.report.table_csv import frame_csv
from privsweep.run.compose import searching
from privsweep.store.full_disk import no_room
from privsweep.store.store import Store
from privsweep.store.tidy import tidy

log = logging.getLogger(__name__)


def run(planned: SweepPlan, config_dir: str | None) -> int:
    """Searches, and tells the best values; the exit code: 1 where a trial was refused or failed."""
    session = planned.runs[0].spec.session
    folder = Path(planned.sweep_dir)
    tidy(Store(session.output_dir))
    _quiet()
    count = planned.hydra["sweeper"]["n_trials"]
    terminal.say(f"a search by {session.objective}, {_direction(planned)}, {count} trial{'s' * (count != 1)}")
    reason, noted = None, jobs.note(planned, config_dir)  # the launcher adds the trials as they come
    given = {str(o.input_line): drawn(o) for o in planned.typed}
    with searching(config_dir) as hydra:
        try:
            hydra.multirun(
                "config",
                Trials(planned.swept, session.objective, numeric(planned.typed), planned.typed_but()),
                [given.get(line, line) for line in planned.for_hydra(())],
            )
        except (Exception, SystemExit) as error:
            if isinstance(error, UserError) and not any(every(folder)):
                noted.unlink(missing_ok=True)
                raise
            log.debug("the search gave up", exc_info=error)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            if full := no_room(session.output_dir, error):
                terminal.complain(full)
                return jobs.FAILED
    found = list(every(folder))
    if reason and not any(one.error for one in found):  # of failed trials each says why
        terminal.complain(f"the search gave up ({reason}); the same command goes on with the trials that are stored")
    return _tell(planned, sorted(found, key=lambda one: one.number))


def _tell(planned: SweepPlan, trials: Sequence[Trial]) -> int:
    session = planned.runs[0].spec.session
    good = [one for one in trials if one.value is not None]
    if trials:
        file_summary(session.output_dir, _texts(planned.swept, session.objective, trials))
    wanted = planned.hydra["sweeper"]["n_trials"]
    for one in trials:
        if one.error:
            own = Path(planned.sweep_dir, str(one.number), jobs.LOG)
            terminal.failed(f"trial {one.number}: {one.words}", one.error, own if own.is_file() else None)
    if good:
        sign = 1 if _direction(planned) == "minimize" else -1
        best = min(good, key=lambda one: sign * float(one.value or 0))
        count, runs = f"{len(good)} trial{'s' * (len(good) != 1)}", len({one.signature for one in good})
        count += f" ({runs} different)" if runs < len(good) else ""
        terminal.say(f"best of {count}: {best.words}  {session.objective} {best.shown}")
        kept = planned.typed_but("hydra/sweeper", "fail_fast", "at_once", *planned.swept)
        kept = [o for o in kept if not o.startswith(("hydra.", "hydra/"))]
        with searching(planned.config_dir):
            words, _ = applied([*kept, *(f"{key}={value}" for key, value in best.chosen.items())], planned.typed)
        again = shlex.join([*finding(planned.config_dir), *words])
        terminal.say(f"its run is {best.signature}; to see it again: privsweep {again}")
    return 0 if len(good) >= wanted else 1


def _texts(swept: Sequence[str], objective: str, trials: Sequence[Trial]) -> dict[str, str]:
    """What all trials came to, by the ends of the files' names."""
    rows = [
        {"trial": one.number, **one.chosen, objective: one.value, "run": one.signature, "error": one.error}
        for one in trials
    ]
    frame = pd.DataFrame(rows)
    head = ["trial", *swept, objective, "run"]
    text = [
        [str(one.number), *(one.chosen.get(key, "") for key in swept), one.shown, one.signature or ""] for one in trials
    ]
    return {".md": pipe_table(head, text) + "\n", ".csv": frame_csv(frame)}


def _direction(planned: SweepPlan) -> str:
    found: Any = planned.hydra["sweeper"]["direction"]
    return str(getattr(found, "name", found))


def _quiet() -> None:
    """Optuna and its sweeper tell of every trial in words of their own, and a part of it warns when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("hydra_plugins.hydra_optuna_sweeper").setLevel(logging.ERROR)
