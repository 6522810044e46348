"""The game between a federation and an adversary: every type and protocol, on one page.

A setting trains a federation on a dataset with a model under defences, and exposes what an adversary
sees. An attack turns what is seen and known into a guess. Metrics compare the guess with the truth.

Axes: ``V`` victims, ``N`` images behind one victim's message, ``C, H, W`` channels, height, width, ``M`` records
whose membership is asked. A *victim* is one captured message; the images behind it are what the adversary is after.
Where a defence acts: ``privsweep.protection``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from privsweep.randomness import Rng

if TYPE_CHECKING:
    from privsweep.protection import Defense

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


@dataclass(frozen=True)
class Activations:
    """What a client sends in split learning, once for every victim."""

    z: Tensor  # [V, N, ...] outputs of the cut layer; [V, 1, ...] where only their mean over a batch is sent
    cut: str  # the layer's name
    weights: Tensors  # parameters and buffers of the client's part, no victim axis
    examples: int  # N


@dataclass(frozen=True)
class Predictions:
    """Answers of a black box on the records whose membership is asked."""

    probabilities: Tensor  # [M, classes]
    ask: Callable[[Tensor], Tensor]  # model inputs [n, C, H, W] -> probabilities [n, classes], any number of times


Observation = Update | Activations | Predictions


@dataclass(frozen=True)
class Recipe:
    """How a client trains."""

    optimizer: str
    lr: float
    steps: int  # optimiser steps behind one update
    batch_size: int
    epochs: float | None = None  # how often a client uses each of its examples; None: not told
    examples: int | None = None  # of all clients together; None: not told


@dataclass(frozen=True)
class Knowledge:
    """What the adversary knows besides; None means that it is not granted."""

    model: nn.Sequential | None = None  # in the mode (train or eval) of the clients; of split learning, their part
    loss: Loss | None = None
    domain: Domain | None = None
    labels: Tensor | None = None  # int64 [V, N]
    recipe: Recipe | None = None
    architecture: Architecture | None = None  # of the target, without its weights
    candidates: Split | None = None  # the M records whose membership is asked, in the order of the predictions
    public: Split | None = None  # the adversary's own data: of another dataset, or held out from this one

    def granted(self) -> frozenset[str]:
        return frozenset(name for name, value in vars(self).items() if value is not None)


@dataclass(frozen=True)
class Images:
    """The truth behind every victim's update. Never an argument of an attack."""

    pixels: Tensor  # [V, N, C, H, W] in [0, 1]
    labels: Tensor  # int64 [V, N]
    index: Tensor  # int64 [V, N]: positions in the training split


@dataclass(frozen=True)
class Membership:
    """The truth behind every candidate. Never an argument of an attack."""

    member: Tensor  # bool [M]: was in the training data
    index: Tensor  # int64 [M]: position in the training split (members) or in the test split (others)


Truth = Images | Membership


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


@dataclass(frozen=True)
class Scores:
    """An attack's guess at membership."""

    scores: Tensor  # [M], higher: rather a member
    decisions: Tensor  # bool [M], by a threshold that the attack chose without the truth
    diagnostics: Mapping[str, Tensor] = field(default_factory=dict)  # name -> [M]


Guess = Reconstruction | Scores


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
class Schedule:
    """How often one client's examples are used in a whole training."""

    examples: int  # of the client that holds the fewest
    batch_size: int
    steps: int  # optimiser steps of one client over all rounds
    rounds: int
    clients: int
    participation: float  # share of the clients in a round


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

    exposes: ClassVar[type]  # Update or Activations; predictions every setting gives (privsweep.membership)
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

    def network(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> nn.Sequential:
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
    unprepared: frozenset[str]  # own fields that ``prepare`` does not depend on
    threat: ThreatModel

    def refuses(self, setting: Setting) -> str | None:
        """Why this attack cannot work on that setting and what to change, or None."""
        ...

    def fits(self, model: nn.Sequential, domain: Domain, public: Split | None) -> str | None:
        """Why this attack cannot work on that model and those data, in words that name a remedy, or None."""
        ...

    def prepare(self, known: Knowledge, bench: Bench, rng: Rng) -> Tensors:
        """Decoders, shadow models: whatever does not depend on the victims, kept for every run that shares it."""
        ...

    def __call__(self, seen: Observation, known: Knowledge, prepared: Tensors, bench: Bench, rng: Rng) -> Guess: ...
