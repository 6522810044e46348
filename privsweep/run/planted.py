"""A system as a malicious server sends it."""

from __future__ import annotations

from dataclasses import replace

from privsweep.interface.data import Data, ImageSet
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge, System
from privsweep.interface.returned import check_returned
from privsweep.interface.roles import Plants
from privsweep.run.run_spec import RunSpec


def planted(spec: RunSpec, system: System, data: Data, prior: ImageSet | None, defense: Defense, rng: Rng) -> System:
    """The system with the weights that the attack chooses, where it chooses any: what the victims are sent of a round.

    Nobody trains on from them. Raises TypeError or ValueError where an attack gives back other tensors.
    """
    attack = spec.attack
    if not isinstance(attack, Plants):
        return system
    net = spec.fl_setting.assembled(data.domain, spec.model, defense, rng).to(data.train.labels.device)
    given = Knowledge(model=net, domain=data.domain, prior=prior).only(attack.needs)
    sent = {}
    for done, weights in system.snapshots.items():
        own = {name: w.clone() for name, w in weights.items()}  # an attack may write into what it is given
        sent[done] = attack.plant(own, given, rng.child("attack", "plant"))
        check_returned(f"attack={spec.choices.get('attack')}: plant returned", sent[done], weights)
    return replace(system, snapshots=sent)
