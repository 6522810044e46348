"""One run, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import torch

from privsweep.bench import Workbench
from privsweep.build import Experiment
from privsweep.environment import environment
from privsweep.errors import UserError
from privsweep.figure import curves, reconstructions
from privsweep.files import write_json
from privsweep.game import Data, Exposure, Guess, Reconstruction, System
from privsweep.images_file import save_images
from privsweep.metric.matching import match, reorder
from privsweep.metric.score import score
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
            store.fail(sign, {**_header(experiment, sign), "status": "failed", "error": reason})
            raise


def _run(experiment: Experiment, store: Store, sign: str) -> Record:
    session, setting, attack = experiment.session, experiment.fl_setting, experiment.attack
    if session.threads:
        torch.set_num_threads(session.threads)
    device = session.resolve_device()
    rng = Rng(session.seed)
    bench = Workbench(device, store.partial(sign))
    clock = Clock()

    with clock("load"):
        data = experiment.dataset.load(rng.child("dataset")).to(device)
    check(experiment, data, rng)
    with clock("train"), bench.phase("training"):
        system, cached = store.system(
            experiment.training_key(device), device, lambda: train(experiment, data, rng, bench)
        )
    exposure: Exposure | None = None
    guess: Guess | None = None
    if attack.observes is not None:
        with clock("expose"):
            exposure = setting.expose(system, data, experiment.model, experiment.defense, rng, bench)
        with clock("prepare"), bench.phase("preparing the attack"):
            prepared = attack.prepare(exposure.known, bench, rng.child("attack"))
        with clock("attack"), bench.phase("attacking"):
            guess = attack(exposure.seen, exposure.known, prepared, bench, rng.child("attack"))
    return file(experiment, store, sign, data, system, cached, exposure, guess, clock.seconds, bench)


def train(experiment: Experiment, data: Data, rng: Rng, bench: Workbench) -> System:
    """The federation, from what the training key names and nothing else."""
    setting = experiment.training_setting()
    return setting.train(data, experiment.model, experiment.training_defense(), rng, bench)


def check(experiment: Experiment, data: Data, rng: Rng) -> None:
    """What can be refused only once the data's shape is known; raises UserError before any work."""
    if data.multilabel:
        raise UserError(
            f"dataset={experiment.choices.get('dataset')}: its images have several labels each, so it trains no "
            "classifier; it can only be an adversary's prior: dataset@prior=..."
        )
    experiment.fl_setting.check(data, experiment.model, rng)
    with torch.device("meta"):
        plain = experiment.model.build(data.domain, rng.child("init"))
        reason = experiment.attack.fits(experiment.defense.model(plain, rng.child("defense")))
    if reason:
        raise UserError(reason)


def file(
    experiment: Experiment,
    store: Store,
    sign: str,
    data: Data,
    system: System,
    cached: bool,
    exposure: Exposure | None,
    guess: Reconstruction | None,
    seconds: dict[str, float],
    bench: Workbench,
) -> Record:
    """Scores the guess and writes the record's folder."""
    metrics: dict[str, float | None] = {}
    scored = pd.DataFrame()
    if exposure is not None and guess is not None:
        scoring = experiment.scoring
        metrics, scored = score(guess, exposure.truth, data.domain, scoring.paper_scale, scoring.asr_threshold)
        seconds["per_victim"] = seconds["attack"] / len(scored)
    seconds["total"] = sum(v for k, v in seconds.items() if k != "per_victim")
    record = {
        **_header(experiment, sign),
        "status": "complete",
        "metrics": metrics,
        "utility": dict(system.utility),
        "seconds": {name: round(value, 4) for name, value in seconds.items()},
        "environment": {**environment(bench.device), "trained_from_cache": cached, "chunks": bench.sizes},
    }
    with store.writing(sign) as folder:
        write_json(folder / "record.json", record)
        if system.curve:
            pd.DataFrame(list(system.curve)).to_csv(folder / "training.csv", index=False)
        if exposure is not None and guess is not None:
            scored.to_csv(folder / "victims.csv", index=False)
            _pictures(folder, experiment, data, exposure, guess, scored)
    return record


def _pictures(
    folder: Path,
    experiment: Experiment,
    data: Data,
    exposure: Exposure,
    guess: Reconstruction,
    scored: pd.DataFrame,
) -> None:
    title = title_of(experiment.choices)
    if guess.curve:
        frame = curve_frame(guess)
        frame.to_csv(folder / "curve.csv", index=False)
        curves(folder / "curve.png", frame, title, next(n for n in guess.curve if n != "iteration"))
    captions = [f"SSIM {value:.2f}" for value in scored["ssim"]]
    truth = exposure.truth.pixels.cpu()
    guessed = data.domain.pixels(guess.images).cpu().nan_to_num(0.5).clamp(0, 1)
    guessed = reorder(guessed, match(guessed, truth))
    save_images(folder, truth.numpy(), guessed.numpy())
    reconstructions(folder / "reconstructions.png", truth.numpy(), guessed.numpy(), captions, title)


def curve_frame(guess: Reconstruction) -> pd.DataFrame:
    """One row an iteration and victim."""
    steps = guess.curve["iteration"].tolist()
    columns = {name: values.cpu() for name, values in guess.curve.items() if name != "iteration"}
    victims = len(next(iter(columns.values())))
    frame = pd.DataFrame({"iteration": steps * victims, "victim": [v for v in range(victims) for _ in steps]})
    for name, values in columns.items():
        frame[name] = values.flatten().numpy()
    return frame


def title_of(choices: Any) -> str:
    """The composition in a few words."""
    defended = "+".join(choices["defense"]) or "no defence"
    return f"{choices['attack']} on {choices['dataset']}, {choices['model']}, {choices['fl_setting']}, {defended}"


def _header(experiment: Experiment, sign: str) -> Record:
    threat, position = experiment.attack.threat, experiment.fl_setting.position
    return {
        "signature": sign,
        "choices": dict(experiment.choices),
        "scale": experiment.session.scale,
        "threat_model": {
            "time": threat.time,
            "position": position,
            "access": threat.access,
            "security": threat.security,
            **({"adaptive": True} if threat.adaptive else {}),
        },
        "config": dict(experiment.config),
    }
