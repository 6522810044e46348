"""Every value that an attack's options can take runs, or is refused in one line."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from tiny import FITTING, TINY, Bench

from privsweep.interface.errors import UserError
from privsweep.interface.guess import Answers, Reconstruction, Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Predictions
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose, searching
from privsweep.run.run import exposure_for
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_with_data, prior_of

CHOICES = sorted(p.stem for p in (CONF / "attack").glob("*.yaml"))
BLACK_BOX = ["dataset.prior_size=100", "dataset.train_size=40", "dataset.test_size=40", "fl_setting.candidates=20"]
ONE_EPOCH = ["fl_setting.epochs=1", "fl_setting.victims=2"]
SHORT = ["fl_setting.rounds=1", "fl_setting.local_epochs=1", "fl_setting.victims=2"]


def composed(name: str, *more: str) -> RunSpec:
    observes = build_class(name).observes
    given = FITTING.get(name, BLACK_BOX if observes is Predictions else ["fl_setting.labels_known=true"])
    set_ = {o.partition("=")[0] for o in (*given, *more)}
    short = ONE_EPOCH if {"fl_setting=collaborative_inference", "fl_setting=release"} & {*given} else SHORT
    small = [o for o in (*TINY, *short) if o.partition("=")[0] not in set_]
    with searching(None):
        return build(compose([*small, f"attack={name}", *given, *more]))


@cache
def config_of(name: str) -> dict[str, Any]:
    with searching(None):
        made: dict[str, Any] = compose([f"attack={name}"]).config["attack"]
    return made


def build_class(name: str) -> Any:
    module, _, cls = config_of(name)["_target_"].rpartition(".")
    return getattr(import_module(module), cls)


def values(hint: Any) -> Iterator[str]:
    """The values of an option that has a few: literals, truth values, and null where it may be."""
    if hint is bool:
        yield from ("true", "false")
    elif get_origin(hint) is Literal:
        yield from map(str, get_args(hint))
    elif get_origin(hint) is not None:
        for part in get_args(hint):
            yield from values(part)
    elif hint is type(None):
        yield "null"


def variants() -> list[tuple[str, str]]:
    """Attack and override; presets of one class by the optimiser that they take."""
    found, met = [], set()
    for name in CHOICES:
        cls, config = build_class(name), config_of(name)
        kind = (cls, config.get("optimizer"), config.get("online"))
        if kind in met:
            continue
        met.add(kind)
        hints = get_type_hints(cls)
        for field in dataclasses.fields(cls):
            found += [(name, f"attack.{field.name}={value}") for value in values(hints[field.name])]
    return found


VARIANTS = variants()


def test_none_is_lost() -> None:
    assert len(VARIANTS) >= 70
    assert ("cpl", "attack.match=deterministic_layers") in VARIANTS
    assert ("lira_online", "attack.estimate=record") in VARIANTS
    assert ("shadow_membership", "attack.classifier=logistic") in VARIANTS
    assert ("dlg", "attack.labels=analytic") in VARIANTS
    assert ("generative_decoder", "attack.decoder=residual") in VARIANTS


@pytest.mark.parametrize(("name", "override"), VARIANTS, ids=lambda x: x)
def test_it_runs_or_is_refused_in_one_line(name: str, override: str) -> None:
    rng, bench, refusal = Rng(0), Bench(), ""
    try:
        spec = composed(name, override)
        data = spec.dataset.load(rng.child("dataset"))
        prior = prior_of(spec, data, rng)
        check_with_data(spec, data, prior, rng)
    except UserError as error:
        refusal = str(error)
    if refusal:
        assert len(refusal.splitlines()) == 1
        assert "attack" in refusal
        return
    system = spec.training_setting().train(data, spec.model, spec.defense, rng, bench)
    assert spec.view is not None
    out = exposure_for(spec, spec.view, system, data, prior, spec.defense, rng)
    prepared = spec.attack.prepare(out.known.only(spec.attack.prepares_from), bench, rng)
    guess = spec.attack(out.seen, out.known, prepared, bench, rng)
    guess = guess.by_name[guess.chosen] if isinstance(guess, Answers) else guess
    assert isinstance(guess, Reconstruction | Scores)
    made = guess.images if isinstance(guess, Reconstruction) else guess.decisions.double()
    assert torch.isfinite(made).all()


@pytest.mark.parametrize(
    ("given", "has"),
    [
        ("dlg", True),
        ("dlg attack.label_weight=1", True),
        ("dlg attack.distance=cosine", False),
        ("dlg attack.only_nonzero=true", False),
        ("dlg attack.match=deterministic_layers defense=[precode] model=smlp", False),
        ("iga", False),
    ],
)
def test_squared_errors_have_a_mean_over_all_entries_alone(given: str, has: bool) -> None:
    rng, bench = Rng(0), Bench()
    spec = composed(*given.split(), "attack.iterations=1")
    data = spec.dataset.load(rng.child("dataset"))
    system = spec.training_setting().train(data, spec.model, spec.defense, rng, bench)
    assert spec.view is not None
    out = exposure_for(spec, spec.view, system, data, None, spec.defense, rng)
    numbers = spec.attack(out.seen, out.known, {}, bench, rng).diagnostics
    assert ("gradient_mse" in numbers) == has
    if has:
        entries = sum(g[0].numel() for g in out.seen.delta.values())
        torch.testing.assert_close(numbers["gradient_mse"] * entries, numbers["gradient_distance"])
