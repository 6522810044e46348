"""A world in which membership shows: labels are drawn at random, so that a model can only remember them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from tiny import Bench, central, digits_of

from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, ImageSet
from privsweep.interface.guess import Scores
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Predictions
from privsweep.interface.roles import Attack
from privsweep.interface.truth import Membership
from privsweep.metric.membership import score_membership
from privsweep.model.mlp import MLP

MODEL = MLP(width=64, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
SMALL = MLP(width=32, depth=2, activation="relu", dropout=0.2, init="default", init_bound=0.5)
# How attacks train their shadows, unless a test says otherwise: as the target.
SHADOWS: dict[str, Any] = {
    "shadow": "target", "shadows": 8, "shadow_size": None, "epochs": None, "optimizer": None, "lr": None,
    "momentum": 0.0, "batch_size": None, "shadows_defended": True, "memory": 1.0,
}  # fmt: skip


def digits() -> Data:
    data = digits_of(train_size=150, test_size=150, prior_size=600).load(Rng(0))
    assert data.prior is not None
    return replace(data, **{name: _unlabelled(getattr(data, name), name) for name in ("train", "test", "prior")})


def _unlabelled(split: ImageSet, name: str) -> ImageSet:
    drawn = torch.randint(10, (len(split),), generator=Rng(0).child("labels", name).generator())
    return ImageSet(split.images, drawn)


def exposed(epochs: int = 60) -> Exposure:
    """A target that knows its training data by heart; 0 epochs: one that has not seen them."""
    data = digits()
    setting = central(epochs=epochs, lr=0.005, batch_size=16)
    system = setting.train(data, MODEL, Stack({}), Rng(0), Bench())
    out = setting.views()[1].expose(system, data, MODEL, Stack({}), Rng(0))
    return replace(out, known=out.known.having(prior=data.prior))


def guess(attack: Attack, out: Exposure, seed: int = 0) -> Scores:
    """On what the attack asks for, and nothing else."""
    bare = out.known.only(attack.needs)
    given = out.known.only(attack.prepares_from)
    prepared = attack.prepare(given, Bench(), Rng(seed))
    found = attack(out.seen, bare, prepared, Bench(), Rng(seed))
    assert isinstance(found, Scores)
    return found


def measured(attack: Attack, out: Exposure, seed: int = 0) -> dict[str, float]:
    assert isinstance(out.truth, Membership)
    return score_membership(guess(attack, out, seed), out.truth)[0]  # type: ignore[return-value]


def reversed_order(out: Exposure) -> Exposure:
    """The same candidates, last first."""
    assert isinstance(out.seen, Predictions)
    back = torch.arange(len(out.known.candidates)).flip(0)
    seen = Predictions(out.seen.probabilities[back], out.seen.ask)
    return replace(out, seen=seen, known=out.known.having(candidates=out.known.candidates.take(back)))
