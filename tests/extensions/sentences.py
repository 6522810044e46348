"""Token sequences: a dataset, a model, a setting whose client embeds, and an attack that looks embeddings up."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import nn

from privsweep import (
    Activations,
    AttackBase,
    Central,
    Data,
    Exposure,
    Knowledge,
    Sentences,
    TextDomain,
    ThreatModel,
    TokenSet,
    Transcription,
    component,
    seeded,
)


@component
class Parity:
    """Sequences whose class is that of their first token."""

    train_size: Annotated[int, Field(ge=1)]
    test_size: Annotated[int, Field(ge=1)]
    prior_size: Annotated[int, Field(ge=0, le=0)]
    length: int
    vocabulary: int

    def files(self):
        return None  # it is made, not read

    def fingerprint(self):
        return f"{self.train_size} {self.test_size} {self.length} {self.vocabulary}"

    def load(self, rng):
        count = self.train_size + self.test_size
        tokens = torch.randint(self.vocabulary, (count, self.length), generator=rng.child("tokens").generator())
        both = TokenSet(tokens, tokens[:, 0] % 2)
        order = torch.arange(count)
        domain = TextDomain(self.length, self.vocabulary, 2)
        return Data("parity", both.take(order[: self.train_size]), both.take(order[self.train_size :]), domain)


@component
class Embedded:
    width: int

    def build(self, domain, rng):
        with seeded(rng):
            layers = [
                ("embed", nn.Embedding(domain.vocabulary, self.width)),
                ("flatten", nn.Flatten()),
                ("output", nn.Linear(domain.length * self.width, domain.classes)),
            ]
        return nn.Sequential(OrderedDict(layers))


@dataclass(frozen=True)
class EmbeddingView:
    setting: "Embedding"

    observation: ClassVar = Activations
    time: ClassVar = "test"
    position: ClassVar = "server"
    grants: ClassVar = frozenset({"domain", "model"})
    calls: ClassVar = frozenset({"model", "activations"})

    def check(self, data, model, defense, rng):
        pass

    def expose(self, system, data, model, defense, rng):
        net = self.setting.network(data, model, defense, rng)
        net.load_state_dict(dict(system.snapshots[system.last]))
        embed = net[0]
        index = rng.child("queries").permutation(len(data.test))[: self.setting.victims, None]
        tokens = data.test.tokens[index]
        with torch.no_grad():
            z = defense.activations(embed(tokens), rng.child("query"))
        weights = {name: w.clone() for name, w in embed.state_dict().items()}
        seen = Activations(z=z, cut="embed", weights=weights, examples=1)
        return Exposure(seen, Knowledge(domain=data.domain, model=embed), Sentences(tokens, index))


@component
class Embedding(Central):
    def views(self):
        return (EmbeddingView(self),)


@component
class LooksUp(AttackBase):
    """Every embedding is taken for the nearest in the table."""

    observes = Activations
    needs = frozenset({"domain", "model"})
    threat = ThreatModel(frozenset({"test"}), frozenset({"server"}), "white-box")

    def __call__(self, seen, known, prepared, bench, rng):
        table = seen.weights["weight"]
        return Transcription(torch.cdist(seen.z, table).argmin(-1))
