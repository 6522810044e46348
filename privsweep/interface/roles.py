"""Who plays: settings, attacks, and the workbench that long work is given.

A setting trains a federation on a dataset with a model under defences, and exposes what an adversary
sees. An attack turns what is seen and known into a guess. Metrics compare the guess with the truth.
Where a defence acts: ``privsweep.interface.defense``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import nn

from privsweep.interface.data import Architecture, Data, Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import (
    Exposure,
    Guess,
    Knowledge,
    Observation,
    Recipe,
    Schedule,
    System,
    ThreatModel,
)


class Bench(Protocol):
    """What run.py hands to long work."""

    device: torch.device

    def chunks(self, purpose: str, key: str, n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        """``make`` over slices of ``range(n)``, at most ``size`` at once; results joined on the first axis.

        Every finished chunk is saved, so that a killed run goes on from there.
        """
        ...

    def tick(self, done: int, total: int, **numbers: float) -> None:
        """Progress, with the numbers that matter. Rarely from an inner loop: the caller pays the host sync."""
        ...


class Setting(Protocol):
    """A choice of the ``fl_setting`` group."""

    exposes: ClassVar[type]  # Update or Activations; predictions every setting gives (privsweep.exposure.black_box)
    calls: ClassVar[frozenset[str]]  # defence points that train or expose calls
    training_calls: ClassVar[frozenset[str]]  # those that train calls: they determine the trained system
    exposure_fields: ClassVar[Mapping[str, Any]]  # fields that train ignores, and the value it is given

    @property
    def position(self) -> Literal["client", "server", "off-path"]: ...

    @property
    def released(self) -> int | Literal["last"]:
        """Finished rounds of the model that answers as a black box."""
        ...

    @property
    def candidates(self) -> int | None:
        """Records whose membership is asked, half of them members; None: as many as there are."""
        ...

    def refuses(self, defense: Defense) -> str | None:
        """Why this setting cannot go together with that defence, and what to do, or None."""
        ...

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng, capturing: bool) -> None:
        """Raises UserError where setting, data and model do not fit: more clients than examples, say.

        ``capturing``: whether ``expose`` will be called, and not a black box asked or nothing attacked.
        """
        ...

    def schedule(self, data: Data, rng: Rng) -> Schedule:
        """How often a client's data are used, for noise that is chosen from a privacy budget, and its accounting."""
        ...

    def recipe(self, data: Data, rng: Rng) -> Recipe:
        """How one client trains, from the first round to the last."""
        ...

    def length(self) -> int:
        """Rounds (epochs, of central training) from the first to the last."""
        ...

    def network(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the data's device."""
        ...

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System: ...

    def expose(
        self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench
    ) -> Exposure: ...

    def knows(self) -> frozenset[str]:
        """The names of Knowledge that ``expose`` grants."""
        ...


class Attack(Protocol):
    """A choice of the ``attack`` group."""

    observes: type[Observation] | None  # None: attacks nothing
    needs: frozenset[str]  # names of Knowledge
    prepares_from: frozenset[str]  # those of them that ``prepare`` is given; none: there is nothing to prepare
    prepare_ignores: frozenset[str]  # own fields that ``prepare`` does not depend on
    threat: ThreatModel

    def refuses(self, setting: Setting) -> str | None:
        """Why this attack cannot work on that setting and what to change, or None."""
        ...

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        """Why this attack cannot work on that model and those data, in words that name a remedy, or None."""
        ...

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Decoders, shadow models: whatever does not depend on the victims, kept for every run that shares it."""
        ...

    def __call__(self, seen: Observation, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Guess: ...
