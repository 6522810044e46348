"""Sweeps of privacy attacks against collaborative learning, and of the defences.

What a component of your own needs is here: the decorator, the records that pass between a federation and an
adversary, the roles, and the base classes to start from; ``compose``, ``execute``, ``sweep`` and ``records`` for a
notebook; and ``save_update`` for a training loop of your own.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# PyTorch's CPU threads spin while they wait. On a core shared with another process, that made small
# training steps fifty times slower; it must be said before PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

if TYPE_CHECKING:
    from privsweep.attack.base import AttackBase
    from privsweep.cli.library import compose, execute, records, sweep
    from privsweep.exposure.save_update import save_update
    from privsweep.exposure.victims import Victims
    from privsweep.fl_setting.base import TrainingSetting
    from privsweep.fl_setting.central import Central
    from privsweep.fl_setting.federated import Federated
    from privsweep.interface.component import ExposureOnly, JudgementOnly, ResourceOnly, component
    from privsweep.interface.data import (
        Architecture,
        Data,
        Dataset,
        Domain,
        ImageSet,
        Loss,
        Tensors,
        TextDomain,
        TokenSet,
    )
    from privsweep.interface.defense import Defense, point
    from privsweep.interface.errors import UserError
    from privsweep.interface.guess import Answers, Reconstruction, Scores, Transcription
    from privsweep.interface.randomness import Rng, seeded
    from privsweep.interface.records import (
        Activations,
        Exposure,
        Knowledge,
        Predictions,
        Recipe,
        Release,
        Schedule,
        System,
        ThreatModel,
        Update,
    )
    from privsweep.interface.roles import Attack, Bench, Setting, View
    from privsweep.interface.training import Training
    from privsweep.interface.truth import Images, Membership, Sentences
    from privsweep.model.dropout import Dropout

# By the module that has them. They are found when asked for, so that help and completion need not wait for PyTorch.
_HOMES = {
    "privsweep.attack.base": "AttackBase",
    "privsweep.cli.library": "compose execute records sweep",
    "privsweep.exposure.save_update": "save_update",
    "privsweep.exposure.victims": "Victims",
    "privsweep.fl_setting.base": "TrainingSetting",
    "privsweep.fl_setting.central": "Central",
    "privsweep.fl_setting.federated": "Federated",
    "privsweep.interface.component": "ExposureOnly JudgementOnly ResourceOnly component",
    "privsweep.interface.data": "Architecture Data Dataset Domain ImageSet Loss Tensors TextDomain TokenSet",
    "privsweep.interface.defense": "Defense point",
    "privsweep.interface.errors": "UserError",
    "privsweep.interface.guess": "Answers Reconstruction Scores Transcription",
    "privsweep.interface.randomness": "Rng seeded",
    "privsweep.interface.records": "Activations Exposure Knowledge Predictions Recipe Release Schedule System "
    "ThreatModel Update",
    "privsweep.interface.roles": "Attack Bench Setting View",
    "privsweep.interface.training": "Training",
    "privsweep.interface.truth": "Images Membership Sentences",
    "privsweep.model.dropout": "Dropout",
}
_ELSEWHERE = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(import_module(_ELSEWHERE[name]), name)
    raise AttributeError(f"module 'privsweep' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ELSEWHERE})
