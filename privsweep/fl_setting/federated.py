"""Training settings of several clients, some of whom take part in a round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from torch import Tensor

from privsweep.fl_setting.base import Count, Fraction, UpdateSetting
from privsweep.interface.asked import Retraining
from privsweep.interface.component import COUNTS_AS, component, marked
from privsweep.interface.data import Architecture, Data, Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.roles import Bench
from privsweep.training.aggregation import participants, survivors
from privsweep.training.partition import Partition, partition
from privsweep.training.usage import used_in


@component
class Federated(UpdateSetting):
    """Several clients, each with its own examples, some of whom take part in a round."""

    clients: Count
    rounds: Annotated[int, Field(ge=0, le=10_000_000)]
    participation: Fraction  # fraction of the clients drawn for each round; at least one takes part
    partition: Partition
    dirichlet_alpha: Annotated[float, Field(gt=0)]  # of partition=dirichlet: smaller is less even

    def length(self) -> int:
        return self.rounds

    def fraction_of_clients(self) -> float:
        return self.participation

    def shards(self, data: Data, rng: Rng) -> Sequence[Tensor]:
        labels, classes = data.train.labels, data.domain.classes
        return partition(labels, classes, self.clients, self.partition, self.dirichlet_alpha, rng.child("partition"))

    def version_with(self, model: Architecture) -> int:
        """Enters hashes as an integer ``version`` does, where a change of results depends on what is trained."""
        return 0

    def sampled(self, round_: int, rng: Rng) -> list[int]:
        """The clients that take part in a round, in order (McMahan et al., 2017, algorithm 1)."""
        count = participants(self.clients, self.participation)
        return sorted(rng.child("sampled", round_).permutation(self.clients)[:count].tolist())

    def used(self, data: Data, defense: Defense, rng: Rng, done: int) -> Tensor:
        shards = self.shards(data, rng)
        seen = [torch.zeros(len(s), dtype=torch.bool) for s in shards]
        for n in range(done):
            if all(own.all() for own in seen):
                break
            here = rng.child("round", n)
            for client in self.heard(self.sampled(n, rng), defense, here):
                seen[client] |= self.used_by(len(shards[client]), defense, here.child("client", client))
        return torch.cat([s[own] for s, own in zip(shards, seen, strict=True)]).sort().values

    def again(self, data: Data, model: Architecture, done: int) -> Retraining:
        setting = replace(self, rounds=done, checkpoints=[], evaluate_every=None)  # type: ignore[type-var]
        left_out = marked(self, "training", "signature")
        told = {name: value for name, value in vars(setting).items() if name not in left_out}
        if version := self.version_with(model):
            told["version"] = version
        return Again(setting, model, data.domain, {"setting": type(self).__qualname__, **told})

    def uses_all(self, defense: Defense, done: int) -> bool:
        everyone = list(range(self.clients))
        all_heard = self.sampled(0, Rng(0)) == self.heard(everyone, defense, Rng(0)) == everyone
        return all_heard and super().uses_all(defense, done)

    def heard(self, chosen: Sequence[int], defense: Defense, rng: Rng) -> list[int]:
        """Which of the clients that take part in a round move the model; ``rng`` is the round's stream."""
        return [chosen[n] for n in survivors(len(chosen), defense, rng)]

    def used_by(self, examples: int, defense: Defense, rng: Rng) -> Tensor:
        """Which of a client's examples a round of its own uses, bool ``[examples]``; ``rng`` is its stream."""
        return used_in(self.local_schedule(), examples, defense, rng)

    def splits(self, data: Data, shards: Sequence[Tensor]) -> list[ImageSet]:
        return [data.train.take(s.to(data.train.labels.device)) for s in shards]


@dataclass(frozen=True)
class Again:
    """A ``Retraining`` by a setting of its own."""

    setting: Federated = field(metadata={COUNTS_AS: None})
    model: Architecture
    domain: Domain
    told: Mapping[str, Any]  # of the setting what determines its training, for checksums

    def __call__(self, records: ImageSet, defense: Defense, rng: Rng) -> Tensors:
        first = torch.arange(1, device=records.labels.device)
        data = Data("another's", records, records.take(first), self.domain)
        try:
            self.setting.check(data, self.model, defense, rng)
        except UserError as error:
            raise UserError(
                f"attack.shadow_size: shadows train in a federation as the target did, and {len(records)} records do "
                f"not go round ({error}); hold out more by dataset.prior_size, or give attack.epochs, with which one "
                "party trains them"
            ) from error
        system = self.setting.train(data, self.model, defense, rng, cast(Bench, _Unwatched()))
        return system.snapshots[system.last]


class _Unwatched:
    """The part of a bench that a federation asks for: whoever repeats its training keeps what comes out."""

    def tick(self, done: int, total: int, **numbers: float) -> None:
        pass

    def keep(self, purpose: str, state: object) -> None:
        pass

    def kept(self, purpose: str) -> None:
        return None
