"""Where a defence may act: its points, one defence, and several of them folded in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

from torch import Tensor, nn

from privsweep.errors import UserError
from privsweep.game import Loss, Schedule, Tensors
from privsweep.randomness import Rng


class Defense:
    """A defence: the identity at every point; override the points where it acts.

    Where the points stand in a federation::

        defense = defense.bind(schedule)            # noise that depends on a privacy budget
        net  = defense.model(architecture, rng)     # before training: layers added or replaced
        loss = defense.loss(cross_entropy)
        for round in rounds:
            for client in sampled clients:
                for batch in client's data, or as defense.sample draws it:
                    g = gradient of loss(net(batch))                 # in split learning the server computes on from
                                                                     # defense.activations(client's part(batch), rng)
                    or, where a defence acts at example_gradients:
                    g = sum of defense.example_gradients(one gradient an example) / expected batch
                                                                     # zero for an empty batch, either way
                    g = defense.gradient(g, expected batch, rng)     # every training step
                    net = optimiser(net, g)
                share = defense.update(net - net at the start, rng)  # what leaves the client
            messages = defense.server_view(weight * share of every client, rng)  # what the server sees
            mean = defense.combine(messages) / sum of the weights of defense.survivors(clients, rng)
            net  = net at the start + defense.aggregate(mean, contributors, rng)
        answers = defense.predictions(softmax(net(x)), rng)          # of a black box

    A captured update is counterfactual: the weights of that round, the victim's batch alone, through
    the same points. Tensors arrive by parameter name and are not changed in place.

    A model may gain layers that draw noise (``privsweep.stochastic``), and outputs beyond the logits, which
    its ``loss`` consumes: all others read the first ``classes`` columns.
    """

    sums_only: ClassVar[bool] = False  # nothing can be learnt from a message alone, but from all of a round together
    uniform: ClassVar[bool] = False  # clients weigh alike, however many examples each holds
    bounded: ClassVar[tuple[str, str] | None] = None  # what passes the first point must reach the second as it is

    def bind(self, schedule: Schedule) -> Self:
        """This defence with what it derives from the schedule; called once, before anything else."""
        return self

    def spent(self, schedule: Schedule) -> Mapping[str, float]:
        """What a whole training costs of a privacy budget, by name; nothing where there is no guarantee."""
        return {}

    def model(self, model: nn.Sequential, rng: Rng) -> nn.Sequential:
        return model

    def loss(self, loss: Loss) -> Loss:
        return loss

    def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
        """Positions of one step's batch, int64, maybe none, in place of the setting's own batches."""
        raise NotImplementedError  # called only where a defence overrides it

    def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
        """``[B, ...]`` by parameter, one gradient an example."""
        return grads

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        return grad

    def update(self, delta: Tensors, rng: Rng) -> Tensors:
        return delta

    def server_view(self, shares: Sequence[Tensors], rng: Rng) -> Sequence[Tensors]:
        return shares

    def survivors(self, clients: int, rng: Rng) -> list[int]:
        """Which of a round's ``clients`` get through with their message; ``rng`` is that of ``server_view``."""
        return list(range(clients))

    def combine(self, messages: Sequence[Tensors]) -> Tensors:
        """The sum of the shares behind all messages of a round."""
        return {name: sum((m[name] for m in messages[1:]), first) for name, first in messages[0].items()}

    def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
        return mean

    def activations(self, z: Tensor, rng: Rng) -> Tensor:
        return z

    def predictions(self, probabilities: Tensor, rng: Rng) -> Tensor:
        return probabilities

    def acts_at(self) -> frozenset[str]:
        """The points that this defence overrides."""
        return frozenset(p for p in POINTS if getattr(type(self), p) is not getattr(Defense, p))


POINTS: tuple[str, ...] = (
    "model", "loss", "sample", "example_gradients", "gradient", "update", "server_view", "aggregate", "activations",
    "predictions",
)  # fmt: skip


class Stack(Defense):
    """Several defences, folded in the order given; an empty stack is no defence."""

    def __init__(self, defenses: Mapping[str, Defense]):
        self.defenses = dict(defenses)

    @property
    def sums_only(self) -> bool:  # type: ignore[override]
        return any(d.sums_only for d in self.defenses.values())

    @property
    def uniform(self) -> bool:  # type: ignore[override]
        return any(d.uniform for d in self.defenses.values())

    def bind(self, schedule: Schedule) -> Stack:
        """Raises UserError too where one member breaks a bound that another's guarantee rests on."""
        order = {(POINTS.index(p), n): name for n, (name, d) in enumerate(self.defenses.items()) for p in d.acts_at()}
        for n, (name, d) in enumerate(self.defenses.items()):
            if d.bounded is None:
                continue
            first, last = ((POINTS.index(p), n) for p in d.bounded)
            between = {other for place, other in order.items() if first < place < last and other != name}
            for other in sorted(o for o in between if not self.defenses[o].sums_only):
                raise UserError(
                    f"defense=[{','.join(self.defenses)}]: {other} changes what {name} clips before it adds noise, so "
                    f"that its epsilon would not hold; change the order, or leave {other} out"
                )
        return Stack({name: d.bind(schedule) for name, d in self.defenses.items()})

    def budgets(self, schedule: Schedule) -> dict[str, dict[str, float]]:
        """What every member spends, by its name; without those that guarantee nothing."""
        spent = {name: dict(d.spent(schedule)) for name, d in self.defenses.items()}
        return {name: budget for name, budget in spent.items() if budget}

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

    def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
        name, drawing = next((name, d) for name, d in self.defenses.items() if "sample" in d.acts_at())
        return drawing.sample(examples, batch_size, rng.child(name))

    def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            grads = d.example_gradients(grads, own)
        return grads

    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            grad = d.gradient(grad, expected_batch, own)
        return grad

    def update(self, delta: Tensors, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            delta = d.update(delta, own)
        return delta

    def server_view(self, shares: Sequence[Tensors], rng: Rng) -> Sequence[Tensors]:
        for d, own in self._rngs(rng):
            shares = d.server_view(shares, own)
        return shares

    def survivors(self, clients: int, rng: Rng) -> list[int]:
        left = [set(d.survivors(clients, own)) for d, own in self._rngs(rng)]
        return sorted(set(range(clients)).intersection(*left))

    def combine(self, messages: Sequence[Tensors]) -> Tensors:
        masking = [d for d in self.defenses.values() if d.sums_only]
        return masking[-1].combine(messages) if masking else super().combine(messages)

    def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
        for d, own in self._rngs(rng):
            mean = d.aggregate(mean, contributors, own)
        return mean

    def activations(self, z: Tensor, rng: Rng) -> Tensor:
        for d, own in self._rngs(rng):
            z = d.activations(z, own)
        return z

    def predictions(self, probabilities: Tensor, rng: Rng) -> Tensor:
        for d, own in self._rngs(rng):
            probabilities = d.predictions(probabilities, own)
        return probabilities
