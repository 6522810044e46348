"""One run, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import torch

from privsweep import membership
from privsweep.bench import Workbench
from privsweep.build import Experiment
from privsweep.content import checksum_of
from privsweep.errors import UserError
from privsweep.filing import Outcome, file, header_of
from privsweep.game import Bench, Data, Exposure, Guess, Knowledge, Predictions, Split, System, Tensors
from privsweep.protection import Defense
from privsweep.randomness import Rng
from privsweep.store import Record, Store, check_writable

log = logging.getLogger(__name__)
T = TypeVar("T")


class Clock:
    """Seconds by stretch of work."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds[name] = time.perf_counter() - start


@contextmanager
def stretch(clock: Clock, name: str, bench: Workbench, title: str) -> Iterator[None]:
    """Work in chunks, timed with what an interrupted process did of it."""
    with clock(name), bench.phase(title):
        yield
    clock.seconds[name] += bench.earlier


def run(experiment: Experiment) -> Record:
    """Trains, exposes, attacks, scores and files; a stored record is returned as it is, unless forced."""
    store = Store(experiment.session.output_dir)
    sign = experiment.signature
    check_writable(store.root)
    with store.lock(f"run-{sign}"):
        stored = store.complete(sign)
        if stored and not experiment.session.force:
            return {**stored, "reused": True}
        try:
            return _run(experiment, store, sign)
        except UserError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            store.fail(sign, {**header_of(experiment, sign), "status": "failed", "error": reason})
            raise


def _run(experiment: Experiment, store: Store, sign: str) -> Record:
    session, setting, attack = experiment.session, experiment.fl_setting, experiment.attack
    if session.threads:
        torch.set_num_threads(session.threads)
    # On a GPU convolutions would otherwise be rounded to ten bits, which a distance of nearly nothing does not survive.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    device = session.resolve_device()
    rng = Rng(session.seed)
    bench = Workbench(device, store.partial(sign))
    clock = Clock()

    with clock("load"):
        data = experiment.dataset.load(rng.child("dataset")).to(device)
        public = public_of(experiment, data, rng)
    check(experiment, data, public, rng)
    schedule = setting.schedule(data, rng)
    defense = experiment.defense.bind(schedule)
    with clock("train"), bench.phase("training"):
        system, cached = store.system(
            experiment.training_key(device), device, lambda: train(experiment, data, rng, bench)
        )
    exposure: Exposure | None = None
    guess: Guess | None = None
    if attack.observes is not None:
        with clock("expose"):
            exposure = expose(experiment, system, data, public, defense, rng, bench)
        with stretch(clock, "prepare", bench, "preparing the attack"):
            prepared = prepare(experiment, store, exposure.known, bench, rng)
        with stretch(clock, "attack", bench, "attacking"):
            guess = attack(exposure.seen, exposure.known, prepared, bench, rng.child("attack"))
    outcome = Outcome(data, system, cached, exposure, guess, defense.budgets(schedule), clock.seconds)
    return file(experiment, store, sign, outcome, bench)


def train(experiment: Experiment, data: Data, rng: Rng, bench: Workbench) -> System:
    """The federation, from what the training key names and nothing else."""
    setting = experiment.training_setting()
    defense = experiment.training_defense().bind(setting.schedule(data, rng))
    return setting.train(data, experiment.model, defense, rng, bench)


def expose(
    experiment: Experiment, system: System, data: Data, public: Split | None, defense: Defense, rng: Rng, bench: Bench
) -> Exposure:
    """What the attack sees of the system, and what it knows besides: its own data, if it uses any, among it."""
    setting, model = experiment.fl_setting, experiment.model
    if experiment.attack.observes is Predictions:
        out = membership.expose(setting, system, data, model, defense, rng)
    else:
        out = setting.expose(system, data, model, defense, rng, bench)
    if "public" not in experiment.attack.needs:
        return out
    return replace(out, known=replace(out.known, public=public))


def prepare(experiment: Experiment, store: Store, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
    """What the attack makes beforehand from what it names and nothing else, so that other runs can take it over."""
    attack = experiment.attack
    if not attack.prepares_from:
        return {}
    given = Knowledge(**{name: getattr(known, name) for name in attack.prepares_from})
    config = {k: v for k, v in experiment.config["attack"].items() if k not in {*attack.unprepared, "_target_"}}
    maker = type(attack).prepare
    key = {
        "prepare": f"{maker.__module__}.{maker.__qualname__}",  # attacks may share it
        "attack": config,
        "seed": rng.seed,
        "device": bench.device.type,
        "from": {name: checksum_of(getattr(given, name)) for name in sorted(attack.prepares_from)},
    }
    return store.prepared(key, bench.device, lambda: attack.prepare(given, bench, rng.child("attack")))


def public_of(experiment: Experiment, data: Data, rng: Rng) -> Split | None:
    """The adversary's own data on the data's device: the training images of the prior, or those held out."""
    if experiment.prior is None:
        return data.prior
    prior = experiment.prior.load(rng.child("prior"))
    if prior.domain.shape != data.domain.shape:
        theirs, ours = prior.domain.shape, data.domain.shape
        channels = "grey" if ours[0] == 1 else "rgb"
        raise UserError(
            f"dataset@prior={experiment.choices.get('dataset@prior')}: its images are {_size(theirs)}, the target's "
            f"{_size(ours)}; set prior.resize={ours[1]} prior.channels={channels}"
        )
    return prior.train.to(data.train.images.device)


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[1]}x{shape[2]} with {shape[0]} channel{'s' * (shape[0] > 1)}"


def check(experiment: Experiment, data: Data, public: Split | None, rng: Rng) -> None:
    """What can be refused only once the data's shape is known; raises UserError before any work."""
    if data.multilabel:
        raise UserError(
            f"dataset={experiment.choices.get('dataset')}: its images have several labels each, so it trains no "
            "classifier; it can only be an adversary's prior: dataset@prior=..."
        )
    observes = experiment.attack.observes
    experiment.fl_setting.check(data, experiment.model, experiment.defense, rng, observes not in (None, Predictions))
    if observes is Predictions:
        membership.half_of(experiment.fl_setting, data)
    with torch.device("meta"):
        plain = experiment.model.build(data.domain, rng.child("init"))
        defended = experiment.defense.model(plain, rng.child("defense"))
        reason = experiment.attack.fits(defended, data.domain, public)
    if reason:
        raise UserError(reason)
