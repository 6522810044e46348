"""What passes between a federation and an adversary: what is seen and known.

Axes: ``V`` victims (captured messages), ``N`` images ``C, H, W`` behind one, ``M`` records whose membership is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor, nn

from privsweep.interface.asked import Algorithm, Query, Retraining
from privsweep.interface.data import Architecture, Domain, ImageSet, Loss, Tensors
from privsweep.interface.errors import NotGrantedError
from privsweep.interface.training import Augmentation, Decay
from privsweep.interface.truth import Truth

if TYPE_CHECKING:
    from privsweep.interface.defense import Defense


@dataclass(frozen=True)
class Update:
    """What one or several clients sent, once for every victim."""

    weights: Tensors  # parameters and buffers that the update starts from, no victim axis
    delta: Tensors  # [V, ...] for every parameter that was sent; frozen ones are not
    kind: Literal["gradient", "difference"]
    contributors: int  # clients whose updates are averaged in one delta
    examples: int  # N: examples behind one delta
    statistics: Tensors = field(default_factory=dict)  # [V, ...]: buffers that were sent, as the clients left them
    numbers: tuple[int, ...] | None = None  # of the victims, where these are some of all

    @property
    def victims(self) -> tuple[int, ...]:
        """Their numbers; a victim's draws come from its own."""
        return tuple(range(len(next(iter(self.delta.values()))))) if self.numbers is None else self.numbers

    def take(self, part: slice | Tensor) -> Update:
        """Some of the victims; a tensor holds their places."""
        delta, statistics = ({n: t[part] for n, t in of.items()} for of in (self.delta, self.statistics))
        numbers = self.victims[part] if isinstance(part, slice) else tuple(self.victims[at] for at in part.tolist())
        return replace(self, delta=delta, statistics=statistics, numbers=numbers)


@dataclass(frozen=True)
class Activations:
    """What a client sends in split learning, once for every victim."""

    z: Tensor  # [V, N, ...] outputs of the cut layer; [V, 1, ...] where only their mean over a batch is sent
    cut: str  # the layer's name
    weights: Tensors | None  # parameters and buffers of the client's part, no victim axis; None: not seen
    examples: int  # N


@dataclass(frozen=True)
class Predictions:
    """Answers of a black box on the records whose membership is asked."""

    probabilities: Tensor  # [M, classes]
    ask: Callable[[Tensor], Tensor]  # model inputs [n, C, H, W] -> probabilities [n, classes], any number of times


@dataclass(frozen=True)
class Release:
    """Finished models, once for every victim, whose record is in the training data of one."""

    weights: Tensors  # [V, ...] for every parameter and buffer


@dataclass(frozen=True)
class Trials:
    """Finished models, of each of which is asked whether one record is in its training data."""

    weights: Tensors  # [M, ...] for every parameter and buffer, in the order of the candidates


@dataclass(frozen=True)
class UpdateTrials:
    """Updates, of each of which is asked whether some records are behind it."""

    updates: Update
    asked: Tensor  # int64 [M]: the position among the victims of the update that each candidate is asked of


@dataclass(frozen=True)
class PropertyTrials:
    """Updates, of each of which is asked whether examples with a property are behind it."""

    updates: Update


Observation = Update | Activations | Predictions | Release | Trials | UpdateTrials | PropertyTrials
OF_RELEASED_MODELS: frozenset[type[Observation]] = frozenset({Predictions, Release, Trials})  # follow from them alone


@dataclass(frozen=True)
class Recipe:
    """How a client trains."""

    optimizer: str
    lr: float
    momentum: float  # of SGD
    steps: int  # optimiser steps behind one update
    batch_size: int
    epochs: float | None = None  # how often a client uses each of its examples; None: not told
    examples: int | None = None  # of all clients together; None: not told
    weight_decay: float = 0.0  # the penalty's factor, in the gradient
    decay: Decay = "constant"  # of the learning rate
    share: float = 1.0  # of the whole training, over which the rate changes, that these epochs are
    augment: Augmentation = "none"  # of the images
    again: Retraining | None = None  # the same with other records, where several train; None: one party does


@dataclass(frozen=True)
class Defended:
    """Under what defence the target was trained; not what it drew."""

    defense: Defense  # bound to the target's schedule
    architecture: Architecture  # of the target before the defence adds its layers: cut, where the setting cuts it


@dataclass(frozen=True, init=False)
class Knowledge:
    """What the adversary knows besides what it sees. Reading what is not granted raises NotGrantedError.

    No tensor here depends on the victims, apart from ``labels`` and ``candidates``.
    """

    model: nn.Module  # in the mode (train or eval) of the clients; of split learning, their part
    loss: Loss
    domain: Domain
    labels: Tensor  # int64 [V, N]
    recipe: Recipe
    architecture: Architecture  # of the target, without its weights
    server_part: nn.Module  # of a network that is cut, with its weights, in eval mode
    selector: Tensor  # [N]: what a client weighs the answers of several server networks by
    message_size: int  # images that pass the model as one batch, if an output depends on the others; 0: none does
    received: Tensor  # [Q, ...]: what clients have sent for other queries, of which nothing else is known
    candidates: ImageSet  # the M records whose membership is asked, in the order of the observation
    prior: ImageSet  # the adversary's own data: of another dataset, held out from this one, or known to train it
    has_property: Tensor  # bool [n]: which of ``prior`` have the property that is asked about
    query: Query
    algorithm: Algorithm
    defense: Defended  # where there is one

    def __init__(self, **granted: Any) -> None:
        """None counts as not granted. Raises TypeError for a name that is no field."""
        if strange := granted.keys() - GRANTS:
            raise TypeError(f"Knowledge has no {', '.join(sorted(strange))}")
        self.__dict__.update({name: value for name, value in granted.items() if value is not None})

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:  # called where there is no such attribute
            raise NotGrantedError(f"{name} is not granted; the attack must name it among its needs")

    def granted(self) -> frozenset[str]:
        return frozenset(vars(self))

    def only(self, names: Iterable[str]) -> Knowledge:
        """What is granted of ``names``, and nothing else."""
        return Knowledge(**{name: value for name, value in vars(self).items() if name in names})

    def having(self, **more: Any) -> Knowledge:
        """This knowledge and ``more``."""
        return Knowledge(**{**vars(self), **more})


GRANTS = frozenset(Knowledge.__annotations__)


@dataclass(frozen=True)
class Exposure:
    seen: Observation
    known: Knowledge
    truth: Truth | None  # None: nobody here has it
    # Of what is seen, beside the metrics: a number, or one for each victim, of which the record has the mean.
    measures: Mapping[str, float | Sequence[float] | None] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)  # that the system takes, by what it does
    done: int | None = None  # rounds after which the system was seen; None: the last


@dataclass(frozen=True)
class ThreatModel:
    """Zen, section 4: who attacks, when, from where, with what access."""

    times: frozenset[Literal["train", "test"]]  # of the view is what it happens at
    positions: frozenset[Literal["client", "server", "off-path"]]
    access: Literal["white-box", "black-box"]
    security: Literal["honest-but-curious", "malicious"] = "honest-but-curious"
    adaptive: bool = False  # knows the defence and works around it


@dataclass(frozen=True)
class Schedule:
    """How often the clients' examples are used in a whole training."""

    examples: int  # of the client that holds the fewest
    batch_size: int
    steps: int  # optimiser steps of that client over all rounds
    rounds: int
    clients: int
    participation: float  # fraction of the clients in a round
    larger: tuple[tuple[int, int], ...] = ()  # examples and steps of the others, a pair for each further size

    @property
    def uses(self) -> tuple[tuple[int, int], ...]:
        """Examples and steps of a client of every size, the smallest first."""
        return (self.examples, self.steps), *self.larger


@dataclass(frozen=True)
class System:
    """A trained federation."""

    snapshots: Mapping[int, Tensors]  # round -> parameters and buffers; 0 is the initialisation
    utility: Mapping[str, float]  # after the last round
    curve: Sequence[Mapping[str, float]] = ()  # one row a round

    @property
    def last(self) -> int:
        return max(self.snapshots)
