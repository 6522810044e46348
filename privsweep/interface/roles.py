"""The roles: settings and their views, attacks, and the workbench for long computations.

A setting trains a federation on a dataset with a model under defences; a view exposes what an adversary
sees of it. An attack turns what is seen and known into a guess. Metrics compare the guess with the truth.
Where a defence acts: ``privsweep.interface.defense``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from privsweep.interface.data import Architecture, Data, Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.guess import Guess
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Knowledge, Observation, Schedule, System, ThreatModel

Reduce = Callable[[Tensors, Tensors], Tensors]  # (state, a chunk's result) -> the next state


class Bench(Protocol):
    """What run.py hands to long work."""

    device: torch.device

    def chunks(self, purpose: str, key: str, n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        """``make`` over slices of ``range(n)``, at most ``size`` at once; results joined on the first axis.

        Every finished chunk is saved, so that a killed run goes on from there.
        """
        ...

    def stream(
        self,
        purpose: str,
        key: str,
        n: int,
        size: int,
        make: Callable[[slice], Tensors],
        reduce: Reduce,
        start: Tensors,
    ) -> Tensors:
        """What ``reduce(state, make(slice))`` makes of ``start``, slice after slice of ``range(n)``, ``size`` at once.

        For results too large to be kept: statistics of ten thousand sets of weights. The state is saved after every
        chunk, and a killed run goes on from there. ``reduce`` must come to the same however the slices are cut, but for
        rounding.
        """
        ...

    def rows(self, key: Mapping[str, Any], n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        """The first ``n`` rows of a table on the disk, which ``make`` computes, at most ``size`` at once.

        ``key`` names whatever the rows follow from. They are kept for every run that asks for the same key, and row
        ``k`` must not depend on ``n``: whoever asks for fewer finds them, for more only adds to them, and a killed run
        goes on from the last slice. Comes back as tensors ``[n, ...]`` on the CPU, which are read from the disk as they
        are used.
        """
        ...

    def keep(self, purpose: str, state: Callable[[], tuple[Tensors, Mapping[str, Any]]]) -> None:
        """Saves tensors and what JSON holds, now and then however often it is called.

        For work that is not cut into slices, such as a training: ``kept`` hands the last of it to the process that
        goes on after a kill.
        """
        ...

    def kept(self, purpose: str) -> tuple[Tensors, Mapping[str, Any]] | None:
        """What an interrupted process saved last for that purpose of this run."""
        ...

    def tick(self, done: int, total: int, **numbers: float) -> None:
        """Progress, with the numbers that matter. Rarely from an inner loop: the caller pays the host sync."""
        ...


class View(Protocol):
    """What an adversary gets to see of a trained system; a setting lists its views, and an attack picks one by kind."""

    @property
    def observation(self) -> type[Observation]: ...

    @property
    def time(self) -> Literal["train", "test"]: ...

    @property
    def position(self) -> Literal["client", "server", "off-path"]: ...

    @property
    def grants(self) -> frozenset[str]:
        """Names of Knowledge."""
        ...

    @property
    def calls(self) -> frozenset[str]:
        """The defence points that ``expose`` calls."""
        ...

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where the view does not fit the data or the model: more victims than images, say."""
        ...

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        """What is seen, what is known besides, and the truth, none of which is in the other two."""
        ...


@runtime_checkable
class ReadsSentences(Protocol):
    """An attack that works on sequences of tokens; others on updates work on images."""

    reads_sentences: bool


@runtime_checkable
class Captures(Protocol):
    """A view of messages that training would not have sent: of the victims' images alone."""

    @property
    def message(self) -> Schedule:
        """How often one message uses the images behind it."""
        ...


@runtime_checkable
class CountsExamples(Protocol):
    """A view of updates that tells beforehand how many examples are behind one."""

    def behind(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> int:
        """At most, for a client may drop out."""
        ...


class Setting(Protocol):
    """A choice of the ``fl_setting`` group: trains a federation, and knows nothing of what is seen of it."""

    training_calls: ClassVar[frozenset[str]]  # defence points that ``train`` calls: they determine the trained system

    def views(self) -> Sequence[View]:
        """What adversaries see of the trained system, one view a kind of observation, the usual one first."""
        ...

    def refuses(self, defense: Defense) -> str | None:
        """Why this setting cannot go together with that defence, and what to do, or None."""
        ...

    def assembled(self, domain: Domain, model: Architecture, defense: Defense, rng: Rng) -> nn.Module:
        """The freshly initialised model with the defence's layers, on the device in force."""
        ...

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where training does not fit data or model: more clients than examples, say."""
        ...

    def schedule(self, data: Data, rng: Rng) -> Schedule:
        """How often a client's data are used, for noise that is chosen from a privacy budget, and its accounting."""
        ...

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        """Called on a copy that lacks all fields marked ``ExposureOnly``."""
        ...


@runtime_checkable
class TrainsTogether(Protocol):
    """A setting that can train several systems at once, which differ in their seed and their defence alone."""

    def trains_together(self, net: nn.Module, defenses: Sequence[Defense], device: torch.device) -> bool:
        """Whether such systems of that network can be trained at once on the device, with these for defences."""
        ...

    def train_together(
        self, data: Data, model: Architecture, defenses: Sequence[Defense], rngs: Sequence[Rng], bench: Bench
    ) -> list[System]:
        """One for each defence and stream, to rounding what ``train`` gives for them.

        Defences act alike but on the gradient of a step.
        """
        ...


class Attack(Protocol):
    """A choice of the ``attack`` group.

    One that has ``warnings(known: Knowledge) -> list[str]`` too says these lines before its work begins.
    """

    observes: type[Observation] | None  # None: attacks nothing
    needs: frozenset[str]  # names of Knowledge
    prepares_from: frozenset[str]  # those of them that ``prepare`` is given; none: there is nothing to prepare
    threat: ThreatModel

    def refuses(self, view: View) -> str | None:
        """Why this attack cannot work on what that view exposes and what to change, or None."""
        ...

    def fits(self, model: nn.Module, domain: Domain, prior: ImageSet | None) -> str | None:
        """Why this attack cannot work on that model and those data, in words that name a remedy, or None."""
        ...

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Decoders, shadow models: whatever does not depend on the victims, kept for every run that shares it.

        An integer ``prepared_version`` of the class is raised when it makes something else of the same.
        """
        ...

    def victims_at_once(self, seen: Observation, known: Knowledge, device: torch.device) -> int | None:
        """How many victims of an update fit one call; None: all of them."""
        ...

    def __call__(self, seen: Observation, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Guess: ...


@runtime_checkable
class WorksAround(Protocol):
    """An attack with settings that answer to a defence."""

    def without_effect(self, points: frozenset[str]) -> str | None:
        """Which of them would change nothing where defences act at these points, and what to take, or None."""
        ...


@runtime_checkable
class Separates(Protocol):
    """An attack that can tell apart only so many of the examples behind one update.

    One that has ``instead: str`` too names what to take of more.
    """

    at_most: int


@runtime_checkable
class Plants(Protocol):
    """A malicious server's attack, which chooses what weights the victims are sent; nobody trains on from them."""

    def plant(self, weights: Tensors, known: Knowledge, rng: Rng) -> Tensors:
        """What they are sent instead of ``weights``: a copy of those that training came to.

        Of ``known``, the model, in the mode of training, the domain, and the adversary's own data if it uses any.
        """
        ...
