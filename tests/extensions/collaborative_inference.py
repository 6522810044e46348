"""Collaborative inference: the server sees what an unknown client's part makes of a query, and knows its own part."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from privsweep import (
    Activations,
    AttackBase,
    Central,
    Exposure,
    ExposureOnly,
    Images,
    Knowledge,
    Reconstruction,
    System,
    ThreatModel,
    component,
)
from privsweep.model.split_at import cut


@dataclass(frozen=True)
class QueryView:
    setting: "Inference"

    observation: ClassVar = Activations
    time: ClassVar = "test"
    position: ClassVar = "server"
    grants: ClassVar = frozenset({"domain", "server_part"})
    calls: ClassVar = frozenset({"model", "activations"})

    def check(self, data, model, defense, rng):
        pass

    def expose(self, system: System, data, model, defense, rng):
        net = self.setting.network(data, model, defense, rng)
        net.load_state_dict(dict(system.snapshots[system.last]))
        client, server = cut(net.eval(), self.setting.cut)
        index = rng.child("queries").permutation(len(data.test))[: self.setting.victims]
        with torch.no_grad():
            z = client(data.domain.inputs_of(data.test, index))
        z = defense.activations(z, rng.child("query"))
        seen = Activations(z=z[:, None], cut=self.setting.cut, weights=None, examples=1)
        truth = Images(data.test.pixels(index)[:, None], data.test.labels[index][:, None], index[:, None])
        return Exposure(seen, Knowledge(domain=data.domain, server_part=server), truth)


@component
class Inference(Central):
    cut: ExposureOnly[str]

    def views(self):
        return (QueryView(self),)


@component
class ReadsServer(AttackBase):
    """Grey by the server's own confidence in what it is sent."""

    observes = Activations
    needs = frozenset({"domain", "server_part"})
    threat = ThreatModel(frozenset({"test"}), frozenset({"server"}), "white-box")

    def __call__(self, seen, known, prepared, bench, rng):
        assert seen.weights is None
        with torch.no_grad():
            sure = known.server_part(seen.z.flatten(0, 1)).softmax(1).amax(1)
        images = known.domain.inputs(sure.view(-1, 1, 1, 1, 1).expand(-1, 1, *known.domain.shape))
        return Reconstruction(images, torch.zeros(len(images), dtype=torch.bool))
