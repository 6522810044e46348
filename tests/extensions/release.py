"""Finished models, each trained on one record more than all others have."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy

from privsweep import (
    AttackBase,
    Central,
    Exposure,
    Images,
    Knowledge,
    Reconstruction,
    Release,
    ThreatModel,
    component,
)
from privsweep.interface.training import Training, alike, labelled, replica
from privsweep.training.fit import fit


@dataclass(frozen=True)
class ReleaseView:
    setting: "Releasing"

    observation: ClassVar = Release
    time: ClassVar = "test"
    position: ClassVar = "off-path"
    grants: ClassVar = frozenset({"domain"})
    calls: ClassVar = frozenset({"model", "loss", "gradient"})

    def check(self, data, model, defense, rng):
        pass

    def expose(self, system, data, model, defense, rng):
        index = rng.child("targets").permutation(len(data.test))[: self.setting.victims]
        models = []
        for target in index:
            net = self.setting.network(data, model, defense, rng)
            start = alike(system.snapshots[system.last], 1)
            one = labelled(data.test, data.domain, [target[None]])
            schedule = self.setting.local_schedule()
            training = Training(net, start, None, cross_entropy, one, schedule, [rng.child("target")])
            models.append(replica(fit(training).weights, 0))
        weights = {name: torch.stack([m[name] for m in models]) for name in models[0]}
        truth = Images(data.test.pixels(index)[:, None], data.test.labels[index][:, None], index[:, None])
        return Exposure(Release(weights), Knowledge(domain=data.domain), truth)


@component
class Releasing(Central):
    def views(self):
        return (ReleaseView(self),)


@component
class FromWeights(AttackBase):
    """Grey by how far a model's weights lie from the mean of all."""

    observes = Release
    needs = frozenset({"domain"})
    threat = ThreatModel(frozenset({"test"}), frozenset({"off-path"}), "white-box")

    def __call__(self, seen, known, prepared, bench, rng):
        first = next(iter(seen.weights.values())).flatten(1)
        level = (first - first.mean(0)).norm(dim=1).tanh()
        images = known.domain.inputs(level.view(-1, 1, 1, 1, 1).expand(-1, 1, *known.domain.shape))
        return Reconstruction(images, torch.zeros(len(images), dtype=torch.bool))
