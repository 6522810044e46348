"""Training, of whatever is trained: clients, shadow models, decoders, the stages of a defence.

Replicas of one network train in turn, abreast, or stacked on a leading axis; all give the same weights to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Protocol

import torch
from torch import Tensor

from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Training, some
from privsweep.training.abreast import Abreast
from privsweep.training.alone import Alone
from privsweep.training.local import batches_of
from privsweep.training.stacked import Parallel, Stacked, at_once, mixes_examples, most_together

_NONE = Defense()


class Replicas(Protocol):
    """Those that are trained together, on a leading axis ``r``."""

    def at(self, done: Sequence[float]) -> None:
        """Learning rates become what they are when each replica has done that share of its steps."""
        ...

    def step(self, batches: Sequence[tuple[Tensor, int] | None], rngs: Sequence[Rng]) -> Tensor:
        """Moves all; the losses ``[r]`` before it, which the next step may overwrite.

        A batch is positions among a replica's examples, and what the sum of their gradients is divided by; a replica
        without one is done, and its weights stay.
        """
        ...

    def weights(self) -> Tensors:
        """Copies of parameters and buffers, ``[r, ...]``."""
        ...

    def state(self) -> Tensors:
        """Copies of what the optimiser remembers, ``[r, ...]``; the same however replicas train together."""
        ...

    def remember(self, state: Tensors) -> None:
        """The way back, before the first step."""
        ...

    def again(self, training: Training) -> None:
        """To the beginning of another training, in the same memory."""
        ...


@dataclass(frozen=True)
class Fitted:
    """What a training ends with."""

    weights: Tensors  # [R, ...]: parameters and buffers by name
    losses: Tensor  # [R], the mean over the steps of the last round that had examples


After = Callable[[int, Tensors, Tensor, Callable[[], Tensors]], None]


@dataclass(frozen=True)
class Halfway:
    """Where a training in rounds was interrupted; its ``start`` is what the weights were then."""

    rounds: int  # that were done
    optimizer: Tensors  # what the replicas' ``state`` gave


class Kept:
    """Replicas that trainings share one after the other, such as the rounds of a federation.

    They differ in their replicas' start, positions and streams alone. So on a GPU a step is recorded once, and not
    in every round.
    """

    def __init__(self) -> None:
        self.by_count: dict[int, Replicas] = {}

    def begun(self, training: Training, defenses: Sequence[Defense], parallel: Parallel) -> Replicas:
        count = len(training.rngs)
        if count in self.by_count:
            self.by_count[count].again(training)
        else:
            self.by_count[count] = _replicas(training, defenses, parallel)
        return self.by_count[count]


def fit(
    training: Training,
    defense: Defense | Sequence[Defense] = _NONE,
    *,
    parallel: Parallel = "auto",
    memory: float | None = None,
    rounds: int | None = None,
    watch: Callable[[int, int, Tensor], None] = lambda done, total, losses: None,
    after: After | None = None,
    halfway: Halfway | None = None,
    kept: Kept | None = None,
) -> Fitted:
    """Trains all replicas; the defence acts at ``sample``, ``example_gradients`` and ``gradient``.

    defense: one for all, or one for each; different ones train in turn, or abreast.

    Parameters that are not ``trainable`` stay as they are, to the last bit, and so do a layer's running statistics
    where none of its own parameters moves.

    parallel: auto: as the device, the network and its batch are fastest with, see ``most_together``.
    memory: GiB for the replicas that are trained together; None: whatever they take.
    rounds: the schedule so often, with one optimiser throughout, round ``n`` with the streams
        ``rng.child("round", n)``; None: once, with the streams themselves.
    watch: called after every step with the steps done, of all, and the losses ``[r]`` of the replicas in training.
    after: called after every round with the rounds done, the weights ``[r, ...]`` and losses ``[r]`` of those, and
        what tells the optimiser's state.
    halfway: goes on after an interruption, to the same weights as without; of replicas in one group.
    kept: what trainings before this one, of the same network under the same defence, have left; None: nothing.

    Raises ValueError for a ``trainable`` that is found nowhere in the network.
    """
    defenses = [defense] * len(training.rngs) if isinstance(defense, Defense) else list(defense)
    size = together(training, defenses, parallel, memory, rounds)
    groups = list(_groups(training, size))
    often = 1 if rounds is None else rounds
    steps = [often * max(_lengths(group)) for group in groups]
    fitted = []
    for n, group in enumerate(groups):
        before, total = sum(steps[:n]), sum(steps)

        def tick(done: int, losses: Tensor, before: int = before, total: int = total) -> None:
            watch(before + done, total, losses)

        own = defenses[n * size : (n + 1) * size]
        fitted.append(_fit(group, (kept or Kept()).begun(group, own, parallel), own, rounds, tick, after, halfway))
    if len(fitted) == 1:
        return fitted[0]
    weights = {name: torch.cat([part.weights[name] for part in fitted]) for name in fitted[0].weights}
    return Fitted(weights, torch.cat([part.losses for part in fitted]))


def _replicas(training: Training, defenses: Sequence[Defense], parallel: Parallel) -> Replicas:
    if len(training.rngs) == 1:
        return Alone(training, defenses[0])
    abreast = _way(training, parallel) == "abreast"
    return Abreast(training, defenses) if abreast else Stacked(training, defenses[0])


def _way(training: Training, parallel: Parallel) -> Parallel:
    return at_once(training.data.index[0].device) if parallel == "auto" else parallel


def _fit(
    training: Training,
    replicas: Replicas,
    defenses: Sequence[Defense],
    rounds: int | None,
    tick: Callable[[int, Tensor], None],
    after: After | None,
    halfway: Halfway | None,
) -> Fitted:
    """Of one group, whose replicas train together if there are several."""
    lengths, often = _lengths(training), 1 if rounds is None else rounds
    each = max(lengths)
    means = torch.zeros(len(training.rngs), device=training.data.index[0].device)
    first = 0
    if halfway is not None:
        first = halfway.rounds
        replicas.remember(halfway.optimizer)
    done = first * each
    for n, rngs in islice(enumerate(_streams(training, rounds)), first, None):
        total, counted = torch.zeros_like(means), [0] * len(rngs)
        own = [
            batches_of(training.schedule, len(index), defense, rng, index.device)
            for index, defense, rng in zip(training.data.index, defenses, rngs, strict=True)
        ]
        for count, batches in enumerate(zip_longest(*own)):
            replicas.at([(n * length + min(count, length)) / (often * length) for length in lengths])
            losses = replicas.step(batches, [rng.child("step", count) for rng in rngs])
            total += losses
            counted = [c + bool(b and len(b[0])) for c, b in zip(counted, batches, strict=True)]
            done += 1
            tick(done, losses)
        means = total / torch.tensor(counted, device=total.device).clamp_min(1)
        if after is not None:
            after(n + 1, replicas.weights(), means, replicas.state)
    return Fitted(replicas.weights(), means)


def _lengths(training: Training) -> list[int]:
    """Every replica's steps in a round."""
    return [training.schedule.length(len(own)) for own in training.data.index]


def _streams(training: Training, rounds: int | None) -> Iterator[Sequence[Rng]]:
    if rounds is None:
        yield training.rngs
    else:
        yield from ([rng.child("round", n) for rng in training.rngs] for n in range(rounds))


def together(
    training: Training,
    defenses: Sequence[Defense],
    parallel: Parallel,
    memory: float | None = None,
    rounds: int | None = None,
) -> int:
    """How many replicas train together: groups are of about one size."""
    different = list(dict.fromkeys(defenses))
    if len(different) > 1 and _way(training, parallel) == "stacked":
        return 1
    most, count = min(_most(training, d, parallel, memory, rounds) for d in different), len(training.rngs)
    return -(-count // -(-count // most))


def _most(training: Training, defense: Defense, parallel: Parallel, memory: float | None, rounds: int | None) -> int:
    sizes = [len(index) for index in training.data.index]
    uneven = len(set(sizes)) > 1
    # A stack's optimiser cannot pause, its rate is one for all, and padding is no example.
    decays = training.schedule.optimizer.decay != "constant" and len(set(_lengths(training))) > 1
    unstackable = decays or (uneven and (rounds is not None or mixes_examples(training.net)))
    if len(sizes) == 1 or (unstackable and _way(training, parallel) == "stacked"):
        return 1
    x, _ = training.data.read(training.data.index[0][:1])
    return most_together(training.net, x, training.schedule.batch_size, defense, parallel, memory)


def _groups(training: Training, size: int) -> Iterator[Training]:
    for first in range(0, len(training.rngs), size):
        yield some(training, slice(first, first + size))
