"""A search: Optuna's sweeper chooses values as it goes, and every trial is checked when it comes."""

from __future__ import annotations

import logging
import shlex
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from privsweep.cli import terminal
from privsweep.cli.cells import key_of
from privsweep.cli.sweep import SweepPlan
from privsweep.interface.errors import UserError
from privsweep.report.markdown import pipe_table
from privsweep.run.build import build
from privsweep.run.compose import compose, parse, searching
from privsweep.run.objective import objective_of
from privsweep.run.run import run as run_one
from privsweep.store.atomic import read_json, whole_file, write_json
from privsweep.store.store import Store
from privsweep.store.tidy import tidy

log = logging.getLogger(__name__)
NOTE = "trial.json"  # in the folder of the trial's job


@dataclass(frozen=True)
class Trial:
    """What came of the values that were tried."""

    number: int
    chosen: Mapping[str, str]  # key: value, as one types them
    signature: str | None  # of the run; None where it was refused
    value: float | None  # of the objective
    error: str | None

    @property
    def words(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.chosen.items())


def run(planned: SweepPlan, config_dir: str | None) -> int:
    """Searches, and tells the best values; the exit code: 1 where a trial was refused or failed."""
    session = planned.runs[0].spec.session
    folder = Path(planned.sweep_dir)
    tidy(Store(session.output_dir))
    _quiet()
    terminal.say(
        f"a search by {session.objective}, {_direction(planned)}, {planned.hydra['sweeper']['n_trials']} trials"
    )
    reason = None
    with searching(config_dir) as hydra:
        try:
            hydra.multirun("config", partial(trial, planned.swept), planned.for_hydra(()))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            log.info("the search gave up", exc_info=error)
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
    found = [Trial(**read_json(path)) for path in folder.glob(f"*/{NOTE}")]
    if reason and not any(one.error for one in found):  # of failed trials each says why
        terminal.complain(f"the search gave up ({reason}); the same command goes on with the trials that are stored")
    return _tell(planned, sorted(found, key=lambda one: one.number))


def trial(swept: Sequence[str], cfg: DictConfig) -> float | None:
    """One trial, in this process or on a node of a cluster; the number that the sweeper goes by, or None."""
    own = HydraConfig.get()
    typed = list(own.overrides.task)
    chosen = {key_of(o): o.get_value_element_as_str() for o in parse(typed) if key_of(o) in swept}
    sign, value, reason = None, None, None
    try:
        spec = build(compose(typed), fetch=True)
        sign = spec.signature
        value = objective_of(spec, run_one(spec))
    except UserError as error:
        log.error("%s", error)
        reason = str(error)
    except Exception as error:
        log.exception("the trial failed")
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
    done = Trial(own.job.num, chosen, sign, value, reason)
    write_json(Path(own.runtime.output_dir) / NOTE, asdict(done))
    terminal.say(f"trial {done.number}: {done.words}  {cfg.objective} {_shown(done)}")
    return value


def _tell(planned: SweepPlan, trials: Sequence[Trial]) -> int:
    session = planned.runs[0].spec.session
    good = [one for one in trials if one.value is not None]
    if trials:
        stem = session.output_dir / "summaries" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        _write(planned.swept, session.objective, trials, stem)
        terminal.say(f"written: {stem}.md, {stem}.csv")
    wanted = planned.hydra["sweeper"]["n_trials"]
    for one in trials:
        if one.error:
            terminal.complain(f"trial {one.number}: {one.words}: {one.error}")
    if good:
        sign = 1 if _direction(planned) == "minimize" else -1
        best = min(good, key=lambda one: sign * float(one.value or 0))
        terminal.say(f"best of {len(good)} trials: {best.words}  {session.objective} {_shown(best)}")
        kept = planned.typed_but("hydra/sweeper", *planned.swept)
        kept = [o for o in kept if not o.startswith(("hydra.", "hydra/"))]
        again = shlex.join([*kept, *(f"{key}={value}" for key, value in best.chosen.items())])
        terminal.say(f"its run is {best.signature}; to see it again: privsweep {again}")
    return 0 if len(good) >= wanted else 1


def _write(swept: Sequence[str], objective: str, trials: Sequence[Trial], stem: Path) -> None:
    rows = [
        {"trial": one.number, **one.chosen, objective: one.value, "run": one.signature, "error": one.error}
        for one in trials
    ]
    frame = pd.DataFrame(rows)
    head = ["trial", *swept, objective, "run"]
    text = [
        [str(one.number), *(one.chosen.get(key, "") for key in swept), _shown(one), one.signature or ""]
        for one in trials
    ]
    for suffix, content in ((".md", pipe_table(head, text) + "\n"), (".csv", frame.to_csv(index=False))):
        with whole_file(stem.with_suffix(suffix)) as draft:
            draft.write_text(content)


def _shown(one: Trial) -> str:
    return "failed" if one.value is None else f"{one.value:.6g}"


def _direction(planned: SweepPlan) -> str:
    found: Any = planned.hydra["sweeper"]["direction"]
    return str(getattr(found, "name", found))


def _quiet() -> None:
    """Optuna tells of every trial in a line of its own, and its database layer warns of its age when imported."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
