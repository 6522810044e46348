"""Split learning inside federated learning: clients hold the first layers, one server the rest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from copy import deepcopy
from itertools import zip_longest
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from privsweep.exposure.activations import ActivationCapture, ActivationView
from privsweep.fl_setting.base import Count
from privsweep.fl_setting.federated import Federated
from privsweep.interface.component import ExposureOnly, component
from privsweep.interface.data import Architecture, Data, ImageSet, Loss
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import Bench, View
from privsweep.interface.training import LocalSchedule
from privsweep.model.split_at import cut
from privsweep.training.aggregation import averaged
from privsweep.training.frozen import train_mode, unfrozen
from privsweep.training.local import batches_of, gradient, weights_of
from privsweep.training.log import Log
from privsweep.training.stepper import Stepper


class Sent(nn.Module):
    """The way from a client to the server: what a defence makes of the activations of one batch."""

    def __init__(self, defense: Defense, rng: Rng):
        super().__init__()
        self.defense, self.rng = defense, rng

    def forward(self, z: Tensor) -> Tensor:
        return self.defense.activations(z, self.rng)


def joined(head: nn.Sequential, tail: nn.Sequential, defense: Defense, rng: Rng) -> nn.Sequential:
    """Both parts as one model, which shares their layers and names them alike, with the defence at the cut."""
    between = [("sent", Sent(defense, rng))] if "activations" in defense.acts_at() else []
    return nn.Sequential(OrderedDict([*head.named_children(), *between, *tail.named_children()]))


@component
class SplitFed(Federated):
    """SplitFed (Thapa et al., 2022, version 2): Zen, section 4.2, trains so what the generative decoder attacks.

    A client computes as far as layer ``cut`` and sends activations and labels; the server computes on, trains its
    part, and returns the gradient at the cut, with which the client trains its own. Clients take turns batch by
    batch, so that the server's part sees all of them; after every round the clients' parts are averaged, weighted
    by examples. No optimiser's state outlives a round. With one client it is ``fedavg`` with one client.

    A defence acts on the gradient of both parts together, for both are released; on updates, messages and their
    mean it acts as in ``fedavg``, on the clients' parts, for nothing else is sent. What it makes of gradients or of
    updates does not cover the activations, which the server sees as they are, or as ``defense.activations`` has them.
    """

    cut: Annotated[str, Field(coerce_numbers_to_str=True)]  # layers of an nn.Sequential may be called 1
    local_epochs: Count
    local_steps: Count | None  # instead of whole epochs; null: epochs
    reveals: ExposureOnly[
        Literal["each", "mean"]
    ]  # the adversary sees every image's activations, or their mean over a message
    capture: ExposureOnly[ActivationCapture]  # type: ignore[assignment]  # activations come from no local step

    training_calls: ClassVar[frozenset[str]] = Federated.training_calls | {"activations"}

    def __post_init__(self) -> None:
        if self.position == "client":
            raise UserError(
                "fl_setting.position=client: in split learning activations go to the server alone, and no other client "
                "sees them; take server, or fl_setting=fedavg or fedsgd"
            )

    def views(self) -> Sequence[View]:
        seen = ActivationView(self, self.cut, self.capture, self._victims(), self.reveals, self.labels_known)
        return seen, self._black_box()

    def local_schedule(self) -> LocalSchedule:
        return LocalSchedule(self.rule(), self.local_epochs, self.local_steps, self.batch_size)

    def refuses(self, defense: Defense) -> str | None:
        if defense.acts_at() >= {"activations", "example_gradients"}:
            return (
                "in split learning one that changes activations does not go together with one that clips "
                "single examples' gradients; leave one of them out"
            )
        if "aggregate" in defense.acts_at():
            return (
                "noise on the aggregate covers the clients' part alone, and the server's part of split "
                "learning is released with it; take defense=[dp_sgd], or fl_setting=fedavg"
            )
        return super().refuses(defense)

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError too where either part would have nothing to learn."""
        super().check(data, model, defense, rng)
        with torch.device("meta"):
            net = model.build(data.domain, rng.child("init"))
        head, tail = cut(net, self.cut)
        learns = [name for name, _ in net.named_children() if all(list(p.parameters()) for p in cut(net, name))]
        choice = f"choose one of {', '.join(learns)}" if learns else "take a model of more layers that learn"
        for part, who, why in ((head, "client", "send its images"), (tail, "server", "be told the answer")):
            if not list(part.parameters()):
                raise UserError(
                    f"fl_setting.cut={self.cut}: the {who}'s part has nothing to learn, so that it would {why}; "
                    f"{choice}"
                )

    def heard(self, chosen: Sequence[int], defense: Defense, rng: Rng) -> list[int]:
        """All of them: the server's part has learnt from a client before its own gets lost."""
        return list(chosen)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        head, tail = cut(net, self.cut)
        splits = self.splits(data, self.shards(data, rng))
        shown = joined(head, tail, defense, rng.child("accuracy"))
        log = Log(data, shown, self.rounds, self.checkpoints, bench, self.evaluate_every)
        log.add(0, weights_of(net))
        kept = log.go_on(0)
        net.load_state_dict(dict(kept.state or log.latest))
        for done in range(kept.done, self.rounds):
            here = rng.child("round", done)
            chosen = self.sampled(done, rng)
            rngs = [here.child("client", c) for c in chosen]
            owns = [splits[c] for c in chosen]
            heads, losses = self._turns(head, tail, owns, data, defense, rngs)
            after, sizes = [weights_of(own) for own in heads], [len(own) for own in owns]
            head.load_state_dict(averaged(head, weights_of(head), after, sizes, defense, rngs, here))
            log.add(done + 1, weights_of(net), losses.mean().item())
            log.keep(0, done + 1, 0, lambda: log.latest)
        return log.system()

    def _turns(
        self,
        head: nn.Sequential,
        tail: nn.Sequential,
        owns: Sequence[ImageSet],
        data: Data,
        defense: Defense,
        rngs: Sequence[Rng],
    ) -> tuple[list[nn.Sequential], Tensor]:
        """A round of all clients, each from ``head``, batch by batch in turn: their parts, and mean losses ``[K]``.

        ``tail`` is trained in place.
        """
        heads = [deepcopy(head) for _ in owns]
        server = self._stepper(tail)
        loss = defense.loss(data.domain.loss)
        clients = [
            self._steps(own_head, tail, server, own, data, loss, defense, rng)
            for own_head, own, rng in zip(heads, owns, rngs, strict=True)
        ]
        heard: list[list[Tensor]] = [[] for _ in owns]
        for step in zip_longest(*clients):  # asks every client for one step, then for the next
            for values, value in zip(heard, step, strict=True):
                if value is not None:
                    values.append(value)
        none = torch.zeros(1, device=owns[0].labels.device)  # whose batches were all empty
        return heads, torch.stack([(torch.stack(values) if values else none).mean() for values in heard])

    def _stepper(self, part: nn.Module) -> Stepper | None:
        """What moves a part; None where all of it is frozen."""
        moved = [part.get_parameter(name) for name in unfrozen(part)]
        return Stepper(self.rule(), moved) if moved else None

    def _steps(
        self,
        head: nn.Sequential,
        tail: nn.Sequential,
        server: Stepper | None,
        own: ImageSet,
        data: Data,
        loss: Loss,
        defense: Defense,
        rng: Rng,
    ) -> Iterator[Tensor | None]:
        """One client's steps of a round; yields their losses, None for an empty batch.

        The gradient at the cut that the server returns is a link of the chain rule, so that a step may be computed
        through both parts at once.
        """
        client = self._stepper(head)
        moved = [(stepper, unfrozen(part)) for part, stepper in ((head, client), (tail, server))]
        for part, (_, names) in zip((head, tail), moved, strict=True):
            train_mode(part, set(names))
        device = own.labels.device
        for count, (at, expected) in enumerate(batches_of(self.local_schedule(), len(own), defense, rng, device)):
            here = rng.child("step", count)
            net = joined(head, tail, defense, here.child("activations"))
            x, y = data.domain.inputs_of(own, at), own.labels[at]
            grads, value = gradient(net, loss, x, y, defense, here, expected)
            for stepper, names in moved:
                if stepper is not None:
                    stepper.step([grads[name] for name in names])
            yield value if len(at) else None
