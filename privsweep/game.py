"""The game between a federation and an adversary: every type and protocol, on one page.

A setting trains a federation on a dataset with a model under defences, and exposes what an adversary
sees. An attack turns what is seen and known into a guess. Metrics compare the guess with the truth.

Axes: ``V`` victims, ``N`` images behind one victim's update, ``C, H, W`` channels, height, width.
A *victim* is one captured update; the images behind it are what the adversary is after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from privsweep.randomness import Rng

Tensors = Mapping[str, Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]  # (outputs, class indices or probabilities) -> mean over examples


# --- data ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Domain:
    """What everybody knows of the data: the shape of an input, its scale and the number of classes."""

    shape: tuple[int, int, int]  # C, H, W
    classes: int
    mean: tuple[float, ...]  # of the [0, 1] pixels, a channel each; zeros where inputs are not normalised
    std: tuple[float, ...]  # ones where inputs are not normalised

    def _broadcast(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]

    def inputs(self, pixels: Tensor) -> Tensor:
        """``[0, 1]`` pixels ``[..., C, H, W]`` to what a model is fed."""
        return (pixels - self._broadcast(self.mean, pixels)) / self._broadcast(self.std, pixels)

    def pixels(self, inputs: Tensor) -> Tensor:
        """Model inputs ``[..., C, H, W]`` to the pixel scale; values outside ``[0, 1]`` are kept."""
        return inputs * self._broadcast(self.std, inputs) + self._broadcast(self.mean, inputs)

    def box(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The smallest and the largest input that is an image, ``[C, 1, 1]`` each."""
        black = torch.zeros(self.shape[0], 1, 1, device=device)
        return self.inputs(black), self.inputs(black + 1)


@dataclass(frozen=True)
class Split:
    """Images and labels, resident on one device."""

    images: Tensor  # uint8 [n, C, H, W]
    labels: Tensor  # int64 [n]; [n, classes] of 0 and 1 for multi-label data

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, index: Tensor | slice = slice(None)) -> Tensor:
        """Float32 ``[0, 1]`` pixels of the chosen examples."""
        return self.images[index].float().div_(255)

    def take(self, index: Tensor) -> Split:
        return Split(self.images[index], self.labels[index])

    def to(self, device: torch.device) -> Split:
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Data:
    """A loaded dataset."""

    name: str
    train: Split
    test: Split
    domain: Domain
    multilabel: bool = False  # such data serve as an adversary's prior only
    prior: Split | None = None  # training images held out for the adversary; none of them is in ``train``

    def to(self, device: torch.device) -> Data:
        prior = None if self.prior is None else self.prior.to(device)
        return replace(self, train=self.train.to(device), test=self.test.to(device), prior=prior)


class Dataset(Protocol):
    """A choice of the ``dataset`` group."""

    def fingerprint(self) -> str:
        """A checksum of the files' contents; cheap, for it enters every signature."""
        ...

    def load(self, rng: Rng) -> Data: ...


class Architecture(Protocol):
    """A choice of the ``model`` group."""

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        """A freshly initialised network of named layers, so that it can be cut at any of them.

        Raises UserError where the architecture does not fit the domain.
        """
        ...


# --- what the adversary sees and knows -----------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """What one or several clients sent, once for every victim."""

    weights: Tensors  # parameters and buffers that the update starts from, no victim axis
    delta: Tensors  # [V, ...] for every parameter
    kind: Literal["gradient", "difference"]
    contributors: int  # clients whose updates are averaged in one delta
    examples: int  # N: examples behind one delta


Observation = Update


@dataclass(frozen=True)
class Recipe:
    """How a client trains."""

    optimizer: str
    lr: float
    steps: int  # optimiser steps behind one update
    batch_size: int


@dataclass(frozen=True)
class Knowledge:
    """What the adversary knows besides; None means that it is not granted."""

    model: nn.Sequential | None = None  # in the mode (train or eval) that the clients use it in
    loss: Loss | None = None
    domain: Domain | None = None
    labels: Tensor | None = None  # int64 [V, N]
    recipe: Recipe | None = None
    defense: Defense | None = None

    def granted(self) -> frozenset[str]:
        return frozenset(name for name, value in vars(self).items() if value is not None)


@dataclass(frozen=True)
class Images:
    """The truth behind every victim's update. Never an argument of an attack."""

    pixels: Tensor  # [V, N, C, H, W] in [0, 1]
    labels: Tensor  # int64 [V, N]
    index: Tensor  # int64 [V, N]: positions in the training split


Truth = Images


@dataclass(frozen=True)
class Exposure:
    seen: Observation
    known: Knowledge
    truth: Truth


@dataclass(frozen=True)
class Reconstruction:
    """An attack's guess at the images, and what the attack itself can say of it."""

    images: Tensor  # [V, N, C, H, W] on the scale of model inputs; the last finite iterate
    diverged: Tensor  # bool [V]: the attack broke off at a value that is not finite
    labels: Tensor | None = None  # int64 [V, N]
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [V], e.g. the final objective
    curve: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [V, T], with "iteration" [T]


Guess = Reconstruction


# --- the players ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ThreatModel:
    """Zen, section 4: who attacks, when, from where, with what access."""

    time: Literal["train", "test"]
    positions: frozenset[Literal["client", "server", "off-path"]]
    access: Literal["white-box", "black-box"]
    security: Literal["honest-but-curious", "malicious"] = "honest-but-curious"
    adaptive: bool = False  # knows the defence and works around it


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


@dataclass(frozen=True)
class System:
    """A trained federation."""

    snapshots: Mapping[int, Tensors]  # round -> parameters and buffers; 0 is the initialisation
    utility: Mapping[str, float]
    curve: Sequence[Mapping[str, float]] = ()  # one row a round

    @property
    def last(self) -> int:
        return max(self.snapshots)


class Setting(Protocol):
    """A choice of the ``fl_setting`` group."""

    calls: ClassVar[frozenset[str]]  # defence points that train or expose calls
    training_calls: ClassVar[frozenset[str]]  # those that train calls: they determine the trained system
    exposure_fields: ClassVar[Mapping[str, Any]]  # fields that train ignores, and the value it is given
    position: Literal["client", "server", "off-path"]

    def check(self, data: Data, model: Architecture, rng: Rng) -> None:
        """Raises UserError where setting, data and model do not fit: more clients than examples, say."""
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
    threat: ThreatModel

    def refuses(self, setting: Setting) -> str | None:
        """Why this attack cannot work on that setting and what to change, or None."""
        ...

    def fits(self, model: nn.Sequential) -> str | None:
        """Why this attack cannot work on that model, in words that name a remedy, or None."""
        ...

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Any:
        """Decoders, shadow models: whatever does not depend on the victims."""
        ...

    def __call__(self, seen: Observation, known: Knowledge, prepared: Any, bench: Bench, rng: Rng) -> Guess: ...


class Defense:
    """A defence: the identity at every point; override the points where it acts.

    Where the points stand in a federation::

        net  = defense.model(architecture, rng)     # before training: layers added or replaced
        loss = defense.loss(cross_entropy)
        for round in rounds:
            for client in sampled clients:
                for batch in client's data:
                    g = gradient of loss(net(batch))
                    g = defense.gradient(g, len(batch), rng)         # every training step
                    net = optimiser(net, g)
                share = defense.update(net - net at the start, rng)  # what leaves the client
            seen = defense.server_view(shares, rng)                  # what the server sees
            mean = weighted mean of shares
            net  = net at the start + defense.aggregate(mean, contributors, rng)

    A captured update is counterfactual: the weights of that round, the victim's batch alone, through
    the same points. Tensors arrive by parameter name and are not changed in place.

    A model may gain layers that draw noise (``privsweep.stochastic``), and outputs beyond the logits, which
    its ``loss`` consumes: all others read the first ``classes`` columns.
    """

    def model(self, model: nn.Sequential, rng: Rng) -> nn.Sequential:
        return model

    def loss(self, loss: Loss) -> Loss:
        return loss

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        return grad

    def update(self, delta: Tensors, rng: Rng) -> Tensors:
        return delta

    def server_view(self, deltas: Sequence[Tensors], rng: Rng) -> Sequence[Tensors]:
        return deltas

    def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
        return mean

    def acts_at(self) -> frozenset[str]:
        """The points that this defence overrides."""
        return frozenset(p for p in POINTS if getattr(type(self), p) is not getattr(Defense, p))


POINTS: tuple[str, ...] = ("model", "loss", "gradient", "update", "server_view", "aggregate")


class Stack(Defense):
    """Several defences, folded in the order given; an empty stack is no defence."""

    def __init__(self, defenses: Mapping[str, Defense]):
        self.defenses = dict(defenses)

    def acts_at(self) -> frozenset[str]:
        return frozenset().union(*(d.acts_at() for d in self.defenses.values()))

    def only(self, points: frozenset[str]) -> Stack:
        """The defences that act at one of these points, in order."""
        return Stack({name: d for name, d in self.defenses.items() if d.acts_at() & points})

    def _rngs(self, rng: Rng) -> list[tuple[Defense, Rng]]:
        return [(d, rng.child(name)) for name, d in self.defenses.items()]

    def model(self, model: nn.Sequential, rng: Rng) -> nn.Sequential:
        for d, own in self._rngs(rng):
            model = d.model(model, own)
        return model

    def loss(self, loss: Loss) -> Loss:
        for d in self.defenses.values():
            loss = d.loss(loss)
        return loss

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            grad = d.gradient(grad, expected_batch, own)
        return grad

    def update(self, delta: Tensors, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            delta = d.update(delta, own)
        return delta

    def server_view(self, deltas: Sequence[Tensors], rng: Rng) -> Sequence[Tensors]:
        for d, own in self._rngs(rng):
            deltas = d.server_view(deltas, own)
        return deltas

    def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            mean = d.aggregate(mean, contributors, own)
        return mean
