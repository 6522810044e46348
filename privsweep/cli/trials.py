"""The trials of a search: each is an ordinary run, and writes down what came of the values that were tried."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from privsweep.cli import terminal
from privsweep.cli.cells import key_of
from privsweep.cli.combinations import applied
from privsweep.cli.failure import Failure
from privsweep.interface.errors import UserError
from privsweep.run.build import build
from privsweep.run.compose import compose, parse, typed_for
from privsweep.run.objective import NoNumberError, objective_of
from privsweep.run.run import run
from privsweep.store import sweeps
from privsweep.store.atomic import read_json, write_json
from privsweep.store.full_disk import no_room
from privsweep.store.store import Store

log = logging.getLogger(__name__)
_NOTE = "trial.json"  # in the folder of the trial's job


@dataclass(frozen=True)
class Trial:
    """What came of the values that were tried."""

    number: int
    chosen: Mapping[str, str]  # key: value, as one types them
    signature: str | None  # of the run; None where it was refused
    value: float | None  # of the objective
    error: str | None
    hopeless: bool = False  # the others would fail alike

    @property
    def words(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.chosen.items())

    @property
    def shown(self) -> str:
        """The value."""
        return "failed" if self.value is None else f"{self.value:.6g}"

    @property
    def cell(self) -> sweeps.Cell | None:
        """As it is noted where its run is stored; None where it was refused."""
        if self.signature is None:
            return None
        return sweeps.Cell(name=self.words, signature=self.signature, number=None, before=(None, None))


@dataclass(frozen=True)
class Trials:
    """The trials of one search, as Hydra's jobs."""

    swept: Sequence[str]  # the keys that are searched over
    objective: str
    numeric: bool  # they differ in numbers alone
    typed: Sequence[str]  # of the whole search

    def __call__(self, cfg: DictConfig) -> float | Failure:
        """One trial, in this process or on a node of a cluster; the number that the sweeper goes by."""
        own = HydraConfig.get()
        if sweeps.stopped(noted := sweeps.place(Path(cfg.output_dir), own.sweep.dir)):
            return Failure(sweeps.LEFT_OUT)
        typed = typed_for(own)
        sign, value, reason, hopeless = None, None, None, False
        try:
            spec = build(compose(typed), fetch=True)
            sign = spec.signature
            value = objective_of(spec, run(spec))
        except UserError as error:
            log.error("%s", error)
            full = no_room(Path(cfg.output_dir), error)
            reason, hopeless = full or str(error), full is not None or self._hopeless(error)
        except Exception as error:
            log.exception("the trial failed")
            full = no_room(Path(cfg.output_dir), error)
            reason, hopeless = full or f"{type(error).__name__}: {error}".splitlines()[0], full is not None
        self.tell(Trial(own.job.num, self.chosen(typed), sign, value, reason, hopeless), Path(own.runtime.output_dir))
        if value is None and (hopeless or cfg.fail_fast):
            sweeps.stop(noted)
        return Failure(reason or "") if value is None else value

    def settled(self, typed: Sequence[str], number: int) -> Trial | sweeps.Cell:
        """A trial that needs no work, for it is stored or refused; or else what there is to do."""
        typed, _ = applied(typed, parse(self.typed))
        chosen, sign = self.chosen(typed), None
        try:
            spec = build(compose(typed), fetch=True)
            sign, session = spec.signature, spec.session
            record = Store(session.output_dir).record(sign)
            if session.force or record is None or record["status"] != "complete":
                before = sweeps.stamps(session.output_dir, sign)
                words = Trial(number, chosen, sign, None, None).words
                return sweeps.Cell(name=words, signature=sign, number=number, before=before)
            return Trial(number, chosen, sign, objective_of(spec, record), None)
        except UserError as error:
            return Trial(number, chosen, sign, None, str(error), self._hopeless(error))

    def _hopeless(self, error: UserError) -> bool:
        """Whether the other trials lack the number as well."""
        return self.numeric and isinstance(error, NoNumberError)

    def tell(self, one: Trial, folder: Path) -> None:
        """Writes down what came of a trial, in the folder of its job, and says it."""
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / _NOTE, asdict(one))
        self.say(one)

    def say(self, one: Trial) -> None:
        terminal.say(f"trial {one.number}: {one.words}  {self.objective} {one.shown}")

    def chosen(self, typed: Sequence[str]) -> dict[str, str]:
        """What the sweeper chose, of all that a trial is given."""
        return {key_of(o): o.get_value_element_as_str() for o in parse(typed) if key_of(o) in self.swept}


def read(folder: Path) -> Trial | None:
    """What the trial whose job's folder this is came to; None where it did not come to its end."""
    try:
        return Trial(**read_json(folder / _NOTE))
    except (OSError, ValueError, TypeError):
        return None


def every(sweep_dir: Path) -> Iterator[Trial]:
    """Those of a search, in any order."""
    for path in sweep_dir.glob(f"*/{_NOTE}"):
        if (found := read(path.parent)) is not None:
            yield found
