"""What an attack sees of a small federation, composed as the command line composes it."""

from __future__ import annotations

from collections.abc import Sequence

from tiny import Bench

from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run import exposure_for
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_with_data, prior_of


def seen_by_attack(overrides: Sequence[str]) -> tuple[RunSpec, Exposure]:
    """The run, and what its attack is given."""
    with searching(None):
        spec = build(compose([*overrides]))
    return spec, exposed(spec)


def exposed(spec: RunSpec) -> Exposure:
    """What the attack sees and knows of a system that was trained for it, checked as before any work."""
    rng = Rng(0)
    data = spec.dataset.load(rng.child("dataset"))
    prior = prior_of(spec, data, rng)
    check_with_data(spec, data, prior, rng)
    defense = spec.defense.bind(spec.fl_setting.schedule(data, rng))
    system = spec.training_setting().train(data, spec.model, defense, rng, Bench())
    assert spec.view is not None
    return exposure_for(spec, spec.view, system, data, prior, defense, rng)
