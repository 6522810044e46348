"""One run, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch

from privsweep.compiled.library import compiled
from privsweep.defense.stack import Stack
from privsweep.interface import first_optimizer, heap
from privsweep.interface.data import Data, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import TimeLimit, UserError
from privsweep.interface.guess import Guess
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, System
from privsweep.interface.replayed import launched
from privsweep.interface.roles import Bench, View
from privsweep.interface.rounding import round_products
from privsweep.interface.truth import Membership
from privsweep.run.chunks import in_chunks
from privsweep.run.declared import is_ours
from privsweep.run.header import header_of, title_of
from privsweep.run.heartbeat import Heartbeat
from privsweep.run.own_draws import drawing
from privsweep.run.planted import planted
from privsweep.run.run_spec import RunSpec, less, versions
from privsweep.run.seen_utility import seen_utility
from privsweep.run.tracking import track
from privsweep.run.trained import check_trained
from privsweep.run.with_data import check_with_data, prior_of
from privsweep.run.workbench import Workbench
from privsweep.store.fingerprint import checksum_of
from privsweep.store.full_disk import no_room
from privsweep.store.peak_memory import PeakMemory
from privsweep.store.spoilt import say
from privsweep.store.store import Record, Store
from privsweep.store.sweeps import Stamps, stamps
from privsweep.store.writable import check_writable

log = logging.getLogger(__name__)
T = TypeVar("T")


class Clock:
    """Seconds by stretch of work; under ``import`` what the first optimiser of a process had to import in one."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start, imported = time.perf_counter(), first_optimizer.seconds
        try:
            yield
        finally:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if (late := first_optimizer.seconds - imported) > 0:
                self.seconds["import"] = late
            self.seconds[name] = time.perf_counter() - start - late


@contextmanager
def stretch(clock: Clock, name: str, bench: Workbench, title: str) -> Iterator[None]:
    """Work in chunks, timed with what an interrupted process did of it."""
    with clock(name), bench.phase(title):
        yield
    clock.seconds[name] += bench.earlier


@dataclass(frozen=True)
class Loaded:
    """What a run works on, on its device, after all checks."""

    data: Data
    prior: ImageSet | None
    seconds: float


def load(spec: RunSpec) -> Loaded:
    """Loads the data and checks that everything fits them; raises UserError, and writes nothing."""
    session = spec.session
    heap.keep()
    if session.threads:
        torch.set_num_threads(session.threads)
    round_products(session.precision)
    rng, clock = Rng(session.seed), Clock()
    with clock("load"):
        data = spec.dataset.load(rng.child("dataset")).to(session.resolve_device())
        prior = prior_of(spec, data, rng)
    check_with_data(spec, data, prior, rng)
    return Loaded(data, prior, clock.seconds["load"])


def run(spec: RunSpec, loaded: Loaded | None = None, before: Stamps | None = None) -> Record:
    """Trains, exposes, attacks, scores and files; a stored record is returned as it is, unless forced.

    ``loaded``: what ``load`` gave for it, if that was called. ``before``: what ``stamps`` gave for it when the command
    began, now by default; a record that was made since then is returned, forced or not. Raises UserError.
    """
    store = Store(spec.session.output_dir)
    sign = spec.signature
    before = before or stamps(store.root, sign)

    def taken() -> Record | None:
        stored = store.complete(sign)
        counts = stored and (not spec.session.force or stamps(store.root, sign)[0] != before[0])
        return {**stored, "reused": True} if stored and counts else None

    if (stored := taken()) is not None:
        return stored
    try:
        loaded = loaded or load(spec)
        check_writable(store.root)
        with store.lock(f"run-{sign}", f"run {sign} is in work in another process; waiting for it"):
            if (stored := taken()) is not None:
                return stored
            with (
                Heartbeat(store.root, sign, title_of(spec.choices, spec.config)) as heartbeat,
                launched(spec.session.cuda_graphs),
                compiled(spec.session.compiled),
            ):
                record = _run(spec, store, sign, loaded, heartbeat)
    except UserError:
        raise
    except (Exception, TimeLimit) as error:
        reason = no_room(store.root, error) or f"{type(error).__name__}: {error}".splitlines()[0]
        with suppress(OSError):  # where the disk is full, the error says it
            store.fail(sign, {**header_of(spec, sign), "status": "failed", "error": reason})
        raise
    track(spec, record, store)
    return record


def _run(spec: RunSpec, store: Store, sign: str, loaded: Loaded, heartbeat: Heartbeat) -> Record:
    from privsweep.run.outcome import Outcome, file  # here: a stored run is shown without what scores and draws

    setting, attack = spec.fl_setting, spec.attack
    device = spec.session.resolve_device()
    peak = PeakMemory(device)
    rng = Rng(spec.session.seed)
    bench = Workbench(device, store, sign, heartbeat, spec.rounding)
    data, prior, clock = loaded.data, loaded.prior, Clock()
    clock.seconds["load"] = loaded.seconds
    schedule = setting.schedule(data, rng)
    for line in spec.defense.warnings(schedule):
        say(line)
    defense = spec.defense.bind(schedule)
    with stretch(clock, "train", bench, "training"):
        system, cached = store.system(spec.training_key(device), device, lambda: train(spec, data, rng, bench))
    exposure: Exposure | None = None
    guess: Guess | None = None
    if spec.view is not None:
        with clock("expose"), drawing(_seen_through(spec, defense), device):
            exposure = exposure_for(spec, spec.view, system, data, prior, defense, rng)
        for line in getattr(attack, "warnings", lambda known: [])(exposure.known):
            say(line)
        with drawing({f"attack={spec.choices.get('attack')}": attack}, device):
            with stretch(clock, "prepare", bench, "preparing the attack"):
                prepared = prepare(spec, store, exposure.known, bench, rng)
            with stretch(clock, "attack", bench, "attacking"):
                size, own = attack.victims_at_once(exposure.seen, exposure.known, device), rng.child("attack")
                guess = in_chunks(exposure, size, bench, lambda seen, known: attack(seen, known, prepared, bench, own))
    with clock("measure"):
        seen = seen_utility(spec, system, data, exposure.done if exposure else None, rng)
    outcome = Outcome(data, system, seen, cached, exposure, guess, spec.budgets(defense, schedule), clock.seconds, peak)
    return file(spec, store, sign, outcome, bench)


def train(spec: RunSpec, data: Data, rng: Rng, bench: Workbench) -> System:
    """The federation, from what the training key names and nothing else."""
    setting = spec.training_setting()
    defense = spec.training_defense().bind(setting.schedule(data, rng))
    with drawing(_seen_through(spec, defense), bench.device):
        system = setting.train(data, spec.model, defense, rng, bench)
    if not is_ours(setting):
        with torch.device("meta"):
            assembled = spec.fl_setting.assembled(data.domain, spec.model, spec.defense, rng)
        check_trained(system, assembled)
    return system


def _seen_through(spec: RunSpec, defense: Stack) -> dict[str, Any]:
    """What makes a system and what is seen of it, by what was typed."""
    groups = {f"{group}={spec.choices.get(group)}": getattr(spec, group) for group in ("fl_setting", "model")}
    return groups | {f"defense={name}": one for name, one in defense.defenses.items()}


def exposure_for(
    spec: RunSpec, view: View, system: System, data: Data, prior: ImageSet | None, defense: Defense, rng: Rng
) -> Exposure:
    """What the attack sees of the system, and what it asks to know besides: its own data, if it uses any, among it.

    Raises UserError where the candidates of a membership inference are of one kind, which no attack could tell apart.
    """
    system = planted(spec, system, data, prior, defense, rng)
    out = view.expose(system, data, spec.model, defense, rng)
    if not is_ours(view):
        _check_exposed(view, out)
    if isinstance(out.truth, Membership) and len(kinds := out.truth.member.unique()) < 2:
        only = "there is no candidate" if not len(kinds) else f"all candidates are {'' if kinds[0] else 'non-'}members"
        raise UserError(
            f"fl_setting={spec.choices.get('fl_setting')}: {only}; let its view ask about members and non-members"
        )
    known = out.known if prior is None else out.known.having(prior=prior)
    return replace(out, known=known.only(spec.attack.needs))


def _check_exposed(view: View, out: Exposure) -> None:
    """Raises TypeError where a view of the user's own does not expose what it says."""
    name = type(view).__name__
    if not isinstance(out, Exposure):
        raise TypeError(f"{name}.expose returned {type(out).__name__}; let it return an Exposure(seen, known, truth)")
    if not isinstance(out.seen, view.observation):
        wanted = view.observation.__name__
        raise TypeError(f"{name}.expose shows {type(out.seen).__name__}; let it show its observation, {wanted}")
    if lacking := sorted(view.grants - out.known.granted() - {"prior", "defense"}):  # where there is one
        raise TypeError(f"{name}.expose leaves out {', '.join(lacking)}; give Knowledge all of its grants")


def prepare(spec: RunSpec, store: Store, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
    """What the attack makes beforehand from what it names and nothing else, so that other runs can take it over."""
    attack = spec.attack
    if not attack.prepares_from:
        return {}
    given = known.only(attack.prepares_from)
    config = less(spec.config, spec.parts, "signature", "preparation")["attack"]
    maker = type(attack).prepare
    key = {
        "prepare": f"{maker.__module__}.{maker.__qualname__}",  # attacks may share it
        "attack": {k: v for k, v in config.items() if k != "_target_"},
        "seed": rng.seed,
        "device": bench.device.type,
        **spec.rounding,
        "from": {name: checksum_of(getattr(given, name)) for name in sorted(given.granted())},
        **({"version": version} if (version := getattr(attack, "prepared_version", 0)) else {}),
        **versions({"defense": spec.defense.defenses if {"algorithm", "defense"} & given.granted() else {}}),
    }
    return store.prepared(key, bench.device, lambda: attack.prepare(given, bench, rng.child("attack")))
