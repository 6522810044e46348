"""What a run writes: the record, one row for each victim, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from privsweep.interface.data import Data, Domain, TextDomain
from privsweep.interface.finite import finite
from privsweep.interface.guess import Answers, Guess, Reconstruction, Scores, Transcription
from privsweep.interface.printable import in_markdown
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, System
from privsweep.interface.truth import Images, Membership, Properties, Sentences
from privsweep.metric.score import score
from privsweep.plot.roc import draw_roc
from privsweep.plot.run_pictures import curves, reconstructions
from privsweep.run.header import header_of, title_of
from privsweep.run.run_spec import RunSpec
from privsweep.run.seen_utility import Seen
from privsweep.run.workbench import Workbench
from privsweep.store.atomic import write_json
from privsweep.store.environment import environment
from privsweep.store.images import save_images
from privsweep.store.peak_memory import PeakMemory
from privsweep.store.store import Record, Store

Array = np.ndarray[Any, Any]
_SHOWN = 16  # sentences for readers


@dataclass(frozen=True)
class Outcome:
    """All that a run came to."""

    data: Data
    system: System
    seen: Seen  # the utility of the weights that were attacked, and where they differ of the final ones
    cached: bool  # the system came from the store
    exposure: Exposure | None
    guess: Guess | None
    privacy: Mapping[str, Mapping[str, float]]  # defence: what the training cost of a privacy budget
    seconds: dict[str, float]
    peak: PeakMemory


def file(spec: RunSpec, store: Store, sign: str, outcome: Outcome, bench: Workbench) -> Record:
    """Scores the guess and writes the record's folder."""
    metrics: dict[str, float | None] = {}
    rows = pd.DataFrame()
    answers: Mapping[str, Reconstruction] = {}
    seconds, exposure, guess = outcome.seconds, outcome.exposure, outcome.guess
    several = {"answers": list(guess.by_name)} if isinstance(guess, Answers) else {}
    if exposure is not None and guess is not None:
        scoring = spec.scoring
        domain, threshold = outcome.data.domain, scoring.asr_threshold
        delta = max((budget.get("delta", 0.0) for budget in outcome.privacy.values()), default=None)
        metrics, rows, guess, answers = score(guess, exposure.truth, domain, scoring.paper_scale, threshold, delta)
        for name, value in exposure.measures.items():
            metrics[name] = float(np.mean(value)) if isinstance(value, Sequence) else value
            if isinstance(value, Sequence) and len(value) == len(rows):
                rows[name] = value
        seconds["per_victim"] = seconds["attack"] / len(rows)
    seconds["total"] = sum(v for k, v in seconds.items() if k != "per_victim")
    seconds |= dict(exposure.seconds) if exposure is not None else {}
    memory = outcome.peak.gib()
    record = {
        **header_of(spec, sign),
        "status": "complete",
        "metrics": {name: finite(value) for name, value in metrics.items()},  # diverged systems have others
        **several,
        "sizes": {**_sizes(spec, outcome.data), **outcome.seen.judged},
        "utility": {name: finite(value) for name, value in outcome.seen.utility.items()},
        "privacy": {name: {**budget, "covers": spec.covers(name)} for name, budget in outcome.privacy.items()},
        "uses": store.used,
        "seconds": {name: round(value, 6) for name, value in seconds.items()},
        "environment": {
            **environment(bench.device),
            "memory_gib": None if memory is None else round(memory, 3),
            "trained_from_cache": outcome.cached,
            "chunks": bench.sizes,
        },
    }
    with store.writing(sign) as folder:
        write_json(folder / "record.json", record)
        if outcome.system.curve:
            pd.DataFrame(list(outcome.system.curve)).to_csv(folder / "training.csv", index=False)
        if exposure is not None and guess is not None:
            rows.to_csv(folder / "victims.csv", index=False)
            title = title_of(spec.choices, spec.config)
            if isinstance(guess, Reconstruction):
                _pictures(folder, title, outcome.data, exposure, guess, answers, rows)
            elif isinstance(guess, Scores):
                _roc(folder, title, exposure, guess)
            elif isinstance(guess, Transcription):
                _sentences(folder, title, outcome.data, exposure, guess)
    return record


def _sizes(spec: RunSpec, data: Data) -> dict[str, int]:
    """Examples of each split, and trainable parameters of the model, the defence's layers included.

    Of a file that holds fewer examples than were published both numbers. Of images with one label each how many
    classes there are, and how many test images the largest has: naming it always is right for these.
    """
    with torch.device("meta"):
        net = spec.fl_setting.assembled(data.domain, spec.model, spec.defense, Rng(0))
    splits = {"train": len(data.train), "test": len(data.test), "prior": 0 if data.prior is None else len(data.prior)}
    whole = dict(zip(("file", "published"), data.subset, strict=True)) if data.subset else {}
    parameters = sum(p.numel() for p in net.parameters())
    return {**splits, "all": sum(splits.values()), **whole, **_classes(data), "parameters": parameters}


def _classes(data: Data) -> dict[str, int]:
    labels = data.test.labels
    if not isinstance(data.domain, Domain) or labels.dim() > 1 or not len(labels):
        return {}
    return {"classes": data.domain.classes, "largest_class": int(labels.bincount().max())}


def _roc(folder: Path, title: str, exposure: Exposure, guess: Scores) -> None:
    from privsweep.metric.membership import roc  # here: statistics take long to import, and most runs need none

    truth = exposure.truth
    assert isinstance(truth, Membership | Properties)
    true = truth.member if isinstance(truth, Membership) else truth.present
    _draw_roc(folder, title, *roc(guess, true), int((~true).sum()))


def _draw_roc(folder: Path, title: str, false: Array, true: Array, others: int) -> None:
    pd.DataFrame({"false_positive_rate": false, "true_positive_rate": true}).to_csv(folder / "roc.csv", index=False)
    draw_roc(folder / "roc.png", false, true, others, title)


def _sentences(folder: Path, title: str, data: Data, exposure: Exposure, guess: Transcription) -> None:
    """All of them for programs, the first for readers."""
    from privsweep.metric.sentences import sentence_table  # here, as above

    domain = data.domain
    assert isinstance(exposure.truth, Sentences)
    assert isinstance(domain, TextDomain)
    table = sentence_table(guess, exposure.truth, domain)
    table.to_csv(folder / "sentences.csv", index=False)
    lines = [f"# {in_markdown(title)}", ""]
    for _, row in table.head(_SHOWN).iterrows():
        lines += [f"## victim {row['victim']}", ""]
        lines += [f"- {name.replace('_', ' ')}: {in_markdown(row[name])}" for name in table.columns[1:]] + [""]
    (folder / "sentences.md").write_text("\n".join(lines), encoding="utf-8")


def _pictures(
    folder: Path, title: str, data: Data, exposure: Exposure, guess: Reconstruction,
    answers: Mapping[str, Reconstruction], scored: pd.DataFrame,
) -> None:  # fmt: skip
    if guess.curve:
        frame = curve_frame(guess)
        frame.to_csv(folder / "curve.csv", index=False)
        curves(folder / "curve.png", frame, title, next(n for n in guess.curve if n != "iteration"))
    guessed = _pixels(data, guess)
    further = {name: _pixels(data, answer).numpy() for name, answer in answers.items()}
    originals, below = None, ""
    if exposure.truth is None:
        below, captions = _own_words(guess)
    else:
        assert isinstance(exposure.truth, Images)
        truth = exposure.truth.pixels.cpu()
        originals, captions = truth.numpy(), [f"SSIM {value:.2f}" for value in scored["ssim"]]
        if exposure.truth.nearest is not None and (victims := len(truth)) > 1:
            from privsweep.metric.release import reconstruction_roc  # here, as above

            _draw_roc(folder, title, *reconstruction_roc(guessed, truth), victims * (victims - 1))
    save_images(folder, originals, guessed.numpy(), further)
    reconstructions(folder / "reconstructions.png", originals, guessed.numpy(), captions, title + below)


def _own_words(guess: Reconstruction) -> tuple[str, list[str]]:
    """The first of the attack's diagnostics, its objective as a rule: the name, and a text for each victim."""
    for name, values in guess.diagnostics.items():
        return f"; below: {name.replace('_', ' ')}", [f"{value:.1e}" for value in values.tolist()]
    return "", []


def _pixels(data: Data, guess: Reconstruction) -> Tensor:
    return data.domain.pixels(guess.images).cpu().nan_to_num(0.5).clamp(0, 1)


def curve_frame(guess: Reconstruction) -> pd.DataFrame:
    """One row an iteration and victim."""
    steps = guess.curve["iteration"].tolist()
    columns = {name: values.cpu() for name, values in guess.curve.items() if name != "iteration"}
    victims = len(next(iter(columns.values())))
    frame = pd.DataFrame({"iteration": steps * victims, "victim": [v for v in range(victims) for _ in steps]})
    for name, values in columns.items():
        frame[name] = values.flatten().numpy()
    return frame
