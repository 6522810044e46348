"""A training that was killed goes on where it was, to the same result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from tiny import TINY, Bench

from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run_spec import RunSpec

ROUNDS = 4
TRAININGS = {
    "central": ["fl_setting=central", f"fl_setting.epochs={ROUNDS}"],
    "central, SGD": ["fl_setting=central", f"fl_setting.epochs={ROUNDS}", "fl_setting.optimizer=sgd"],
    "central, batch norm": ["fl_setting=central", f"fl_setting.epochs={ROUNDS}", "model.norm=batch"],
    "central, PRECODE": ["fl_setting=central", f"fl_setting.epochs={ROUNDS}", "defense=[precode]"],
    "central, DP": ["fl_setting=central", f"fl_setting.epochs={ROUNDS}", "defense=[dp_sgd]"],
    "fedavg": [f"fl_setting.rounds={ROUNDS}", "fl_setting.checkpoints=[1]"],
    "fedsgd": ["fl_setting=fedsgd", f"fl_setting.rounds={ROUNDS}", "fl_setting.optimizer=adam"],
    "split": ["fl_setting=split", "model=lenet", f"fl_setting.rounds={ROUNDS}"],
    "two stages": [
        "fl_setting=collaborative_inference", "model=lenet", f"fl_setting.epochs={ROUNDS}", "defense=[shredder]",
    ],
}  # fmt: skip


class KilledError(Exception):
    pass


@dataclass
class Killed(Bench):
    """Keeps every state; the process dies after so many rounds."""

    after: int = 0

    def tick(self, done: int, total: int, **numbers: float) -> None:
        super().tick(done, total, **numbers)
        if len(self.ticks) > self.after:
            raise KilledError


def trained(spec: RunSpec, bench: Bench) -> System:
    rng = Rng(0)
    data = spec.dataset.load(rng.child("dataset"))
    defense = spec.training_defense().bind(spec.fl_setting.schedule(data, rng))
    return spec.training_setting().train(data, spec.model, defense, rng, bench)


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", TRAININGS)
def test_it_goes_on_where_it_was(name: str) -> None:
    with searching(None):
        spec = build(compose([*TINY, *TRAININGS[name]]))
    whole = trained(spec, undisturbed := Bench())
    dying = Killed(keeps=True, after=len(undisturbed.ticks) // 2)
    with pytest.raises(KilledError):
        trained(spec, dying)
    assert dying.store, "something was kept"
    second = Bench(store=dying.store)
    after = trained(spec, second)
    assert len(second.ticks) < len(undisturbed.ticks)
    assert after.curve == whole.curve
    assert after.utility == whole.utility
    assert after.snapshots.keys() == whole.snapshots.keys()
    assert all(same(after.snapshots[n], whole.snapshots[n]) for n in whole.snapshots)
