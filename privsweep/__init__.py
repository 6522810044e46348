"""Sweeps of privacy attacks against collaborative learning, and of the defences.

What a component of your own needs is here: the decorator, the records that pass between a federation and an
adversary, the roles, and the base classes to start from.
"""

import os

# PyTorch's CPU threads spin while they wait. On a core shared with another process, that made small
# training steps fifty times slower; it must be said before PyTorch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from privsweep.attack.base import AttackBase
from privsweep.interface.component import component
from privsweep.interface.data import Architecture, Data, Dataset, Domain, ImageSet, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import (
    Activations,
    Exposure,
    Images,
    Knowledge,
    Membership,
    Predictions,
    Recipe,
    Reconstruction,
    Schedule,
    Scores,
    System,
    ThreatModel,
    Update,
)
from privsweep.interface.roles import Attack, Bench, Setting
