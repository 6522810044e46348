"""Where a defence may act: its points, each declared once, here, by ``@point``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any, ClassVar, Self, TypeVar

from torch import Tensor, nn

from privsweep.interface.data import Loss, Tensors
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.interface.training import Training

F = TypeVar("F", bound=Callable[..., Any])


def point(method: F) -> F:
    """Declares a point: from it follow the list of points, what a defence acts at, and how several are folded.

    The first argument is what the point changes; the last, ``rng``, where there is one, is a stream of this defence's
    own. Several defences are folded in the order given (see ``privsweep.defense.stack``).
    """
    method.is_point = True  # type: ignore[attr-defined]
    return method


class Defense:
    """A defence: the identity at every point; override the points where it acts.

    Where the points stand in a federation::

        defense = defense.bind(schedule)            # noise that depends on a privacy budget
        net  = defense.model(architecture, rng)     # before training: layers added or replaced
        loss = defense.loss(cross_entropy)
        net  = defense.fit(fit, training, fresh, rng)  # of central training: what follows once, or stage by stage
        for round in rounds:
            for client in sampled clients:
                for batch in client's data, or as defense.sample draws it:
                    g = gradient of loss(net(batch))                 # in split learning the server computes on from
                                                                     # defense.activations(client's part(batch), rng)
                    or, where a defence acts at example_gradients:
                    g = sum of defense.example_gradients(one gradient an example) / expected batch
                                                                     # zero for an empty batch, either way
                    g = defense.batch_gradient(g, net, batch, rng)   # unless the batch is empty
                    g = defense.gradient(g, expected batch, rng)     # every training step
                    net = optimiser(net, g)
                update = defense.update(net - net at the start, rng)  # what leaves the client
            messages = defense.server_view(weight * update of every client, rng)  # what the server sees
            mean = defense.combine(messages) / sum of the weights of defense.surviving_clients(clients, rng)
            net  = net at the start + defense.aggregate(mean, contributors, rng)
        answers = defense.predictions(softmax(net(x)), rng)          # of a black box

    A captured update is counterfactual: the weights of that round, the victim's batch alone, through
    the same points. Tensors arrive by parameter name and are not changed in place.

    A model may gain layers that draw noise (``privsweep.model.stochastic``), and outputs beyond the logits, which
    its ``loss`` consumes: all others read the first ``classes`` columns.
    """

    sums_only: ClassVar[bool] = False  # nothing can be learnt from a message alone, but from all of a round together
    uniform: ClassVar[bool] = False  # clients weigh alike, however many examples each holds
    bounded: ClassVar[tuple[str, str] | None] = None  # what passes the first point must reach the second as it is
    answered_by: ClassVar[Mapping[str, str]] = {}  # fields of an attack that knows of it, for a line that says so

    def bind(self, schedule: Schedule) -> Self:
        """This defence with what it derives from the schedule; called once, before anything else."""
        return self

    def spent(self, schedule: Schedule) -> Mapping[str, float]:
        """What a whole training costs of a privacy budget, by name; nothing where there is no guarantee."""
        return {}

    def warnings(self, schedule: Schedule) -> Sequence[str]:
        """What is allowed, but guarantees next to nothing in such a training; a line each, with key and remedy."""
        return ()

    def covers(self, calls: Set[str]) -> bool:
        """Whether what ``spent`` tells holds for one who sees training messages, beside the released model.

        ``calls``: the points that messages have passed. The noise is that of the second point of ``bounded``; whatever
        has not passed it is not covered, such as the activations of split learning under noise on gradients.
        """
        return self.bounded is not None and self.bounded[1] in calls

    @point
    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        return model

    @point
    def loss(self, loss: Loss) -> Loss:
        return loss

    @point
    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        """The trained network, ``[1, ...]`` by name: of ``training``, which ``fit`` carries out once, or in stages.

        A stage is another ``Training``: ``dataclasses.replace(training, start=first, trainable=["output"],
        rngs=[rng.child("second")])`` trains the output layer again. It may have another network, loss and schedule, and
        several replicas, which come back stacked. ``fresh(rng)`` is such a network as it is before any defence, with
        initial values of its own. Of several defences one at most overrides this. What is trained here
        is stored with the trained system.
        """
        return fit(training)

    @point
    def sample(self, examples: int, batch_size: int, rng: Rng) -> Tensor:
        """Positions of one step's batch, int64, maybe none, in place of the setting's own batches.

        Called only where a defence overrides it; of several that do, the first draws.
        """
        raise TypeError(f"{type(self).__name__} draws no batches of its own")

    @point
    def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
        """``[B, ...]`` by parameter, one gradient an example."""
        return grads

    @point
    def batch_gradient(self, grad: Tensors, model: nn.Module, x: Tensor, rng: Rng) -> Tensors:
        """Of a step on the inputs ``x`` ``[B, ...]``; ``model`` stays as it is, and so do its buffers.

        For a defence that looks at what the gradient came from; such a step trains no replicas together.
        """
        return grad

    @point
    def gradient(self, grad: Tensors, expected_batch: int, rng: Rng) -> Tensors:
        """Of what it is given alone: on a GPU a training step is recorded once and replayed.

        Every replay draws anew from ``rng``, if drawn on the gradients' device; a step that draws elsewhere, or waits
        for a result, is not recorded.
        """
        return grad

    @point
    def update(self, delta: Tensors, rng: Rng) -> Tensors:
        return delta

    @point
    def server_view(self, updates: Sequence[Tensors], rng: Rng) -> Sequence[Tensors]:
        return updates

    @point
    def aggregate(self, mean: Tensors, contributors: int, rng: Rng) -> Tensors:
        return mean

    @point
    def activations(self, z: Tensor, rng: Rng) -> Tensor:
        return z

    @point
    def predictions(self, probabilities: Tensor, rng: Rng) -> Tensor:
        return probabilities

    def example_bound(self) -> float | None:
        """The L2 norm that ``example_gradients`` clips every example's gradient to, as ``clip`` does.

        Infinite where it lets all pass as it is; None where it does anything else.
        """
        return None if "example_gradients" in self.acts_at() else math.inf

    def surviving_clients(self, clients: int, rng: Rng) -> list[int]:
        """Which of a round's ``clients`` get through with their message; ``rng`` is that of ``server_view``."""
        return list(range(clients))

    def combine(self, messages: Sequence[Tensors]) -> Tensors:
        """The sum of the updates behind all messages of a round."""
        return {name: sum((m[name] for m in messages[1:]), first) for name, first in messages[0].items()}

    def shortening(self) -> Self:
        """The same, of what is clipped: no message may stand for a longer update than it was made of.

        Of a defence with ``sums_only``, whose messages are added up and then noised.
        """
        return self

    def gradient_noise(self, expected_batch: int) -> float:
        """The standard deviation of the independent noise that ``gradient`` adds to every entry; 0 where there is none.

        Known to who judges a defence, and to no attack.
        """
        return 0.0

    def acts_at(self) -> frozenset[str]:
        """The points that this defence overrides."""
        return frozenset(p for p in POINTS if getattr(type(self), p) is not getattr(Defense, p))


# In the order in which training and exposure come to them.
POINTS: tuple[str, ...] = tuple(name for name, member in vars(Defense).items() if hasattr(member, "is_point"))
