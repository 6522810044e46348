"""Components of the user's own, as texts in which a test makes mistakes."""

MEAN = """
import torch
from privsweep import AttackBase, Reconstruction, ThreatModel, Update, component

@component
class Own(AttackBase):
    shift: float
    observes = Update
    needs = frozenset({"domain"})
    threat = ThreatModel(frozenset({"train"}), frozenset({"server"}), "white-box")

    def __call__(self, seen, known, prepared, bench, rng):
        images = torch.zeros(len(seen.victims), seen.examples, *known.domain.shape)
        return Reconstruction(images, torch.zeros(len(images), dtype=torch.bool))
"""
CLIP = """
from privsweep import Defense, component

@component
class Own(Defense):
    shift: float

    def update(self, delta, rng):
        return delta
"""
LAYER = """
from privsweep import Defense, component
from torch import nn

@component
class Own(Defense):
    shift: float

    def model(self, model, rng):
        return nn.Sequential(model, nn.Linear(10, 10))
"""
LINEAR = """
from math import prod
from privsweep import component
from torch import nn, zeros

class Cut(nn.Sequential):
    def forward(self, x):
        return super().forward(x).detach()

class Compiled(nn.Sequential):
    _orig_mod = None

class Spare(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.spare = nn.Parameter(zeros(3))

    def forward(self, x):
        return self[1](self[0](x))

@component
class Own:
    shift: float

    def build(self, domain, rng):
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(domain.shape), domain.classes))
"""
