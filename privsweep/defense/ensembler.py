"""Ensembler: several server networks, of which the client secretly uses a few (Liu and Xiong, 2024, section 4)."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from privsweep.interface.component import component
from privsweep.interface.data import Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.training import Training, replica
from privsweep.model.ensemble import Selector, ensembled
from privsweep.model.loss_term import PlusLastOutput
from privsweep.model.perturbation import FixedNoise
from privsweep.model.split_network import SplitNetwork, appended, split_by_setting


@component
class Ensembler(Defense):
    """N networks are trained apart; then head and tail are trained again, for a secret choice of P of their bodies.

    Stage one (equation 2): ``networks`` whole networks, each with its own initial values, batches and fixed noise of
    standard deviation ``sigma`` after the head. Stage two (equation 3): the bodies are frozen, and a new head and tail
    are trained through the selector, which weighs ``selected`` bodies 1/P and the others zero (equation 1); the loss is
    the cross-entropy plus ``regularisation`` times the largest cosine similarity, before the noise, between the
    features of the new head and those of the selected networks' first heads, the mean over a batch.

    Ours, for the paper leaves it open: which are selected is drawn from the run's seed; the new head has a noise of its
    own, and its initial values are fresh; sigma is a standard deviation; ``second_epochs`` (null: as many as in stage
    one), with the setting's learning rate and its decay.
    """

    networks: Annotated[int, Field(ge=1)]
    selected: Annotated[int, Field(ge=1)]
    sigma: Annotated[float, Field(ge=0)]
    regularisation: Annotated[float, Field(ge=0)]
    second_epochs: Annotated[int, Field(ge=0)] | None

    def __post_init__(self) -> None:
        if self.selected > self.networks:
            raise UserError(
                f"defense.ensembler.selected={self.selected}: there are {self.networks} networks to select from; take "
                f"{self.networks} or fewer, or more networks"
            )

    def model(self, model: nn.Module, rng: Rng) -> nn.Module:
        net = split_by_setting(model, "ensembler")
        selector = ("selector", Selector(self.networks, self.chosen(rng)))
        several = ensembled(net, self.networks, selector, "ensembler", rng.child("tail"))
        return several.with_parts(head=_noisy(net, self.sigma, rng.child("noise")).head)

    def chosen(self, rng: Rng) -> list[int]:
        """The numbers of the selected networks."""
        with torch.device("cpu"):
            order = rng.child("selector").permutation(self.networks)
        return sorted(order[: self.selected].tolist())

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        net = training.net
        assert isinstance(net, SplitNetwork)
        first = self._first_stage(fit, training, fresh, rng)
        start = {name: w for name, w in training.start.items() if not name.startswith("body.")}
        for i in range(self.networks):
            start |= {f"body.nets.{i}.{n}": w[None] for n, w in _part(replica(first, i), "body").items()}
        selector = net.tail[0]
        assert isinstance(selector, Selector)
        heads, chosen = [], selector.activation.nonzero().flatten().tolist()
        for i in chosen:
            head = _plain(net.head)
            head.load_state_dict({n: w for n, w in _part(replica(first, i), "head").items() if n in head.state_dict()})
            heads.append(head)
        second = _Regularised(net, heads, chosen)
        state = {f"heads.{k}.{n}": w[None] for k, head in enumerate(heads) for n, w in head.state_dict().items()}
        epochs = training.schedule.epochs if self.second_epochs is None else self.second_epochs
        trained = fit(
            replace(
                training,
                net=second,
                start={**{f"net.{n}": w for n, w in start.items()}, **state},
                trainable=["net.head", "net.tail"],
                loss=PlusLastOutput(training.loss, self.regularisation),
                schedule=replace(training.schedule, epochs=epochs),
                rngs=[rng.child("second stage")],
            )
        )
        return _part(trained, "net")

    def _first_stage(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        """Weights ``[N, ...]`` of the whole networks, their noise among them."""
        nets = []
        for i in range(self.networks):
            own = fresh(rng.child("network", i))
            assert isinstance(own, SplitNetwork)
            nets.append(_noisy(own, self.sigma, rng.child("network", i, "noise")))
        states = [net.state_dict() for net in nets]
        start = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        index = [training.data.index[0]] * self.networks
        rngs = [rng.child("first stage", i) for i in range(self.networks)]
        data = replace(training.data, index=index)
        return fit(replace(training, net=nets[0], start=start, data=data, rngs=rngs))


class _Regularised(nn.Module):
    """The network of stage two, with one more output: the largest similarity to a selected network's first head.

    Bodies that are not selected are not asked: whatever they answer, the selector makes zeros of it.
    """

    def __init__(self, net: SplitNetwork, heads: list[nn.Sequential], chosen: list[int]):
        super().__init__()
        self.net, self.heads, self.chosen = net, nn.ModuleList(heads), chosen

    def forward(self, x: Tensor) -> Tensor:
        *layers, noise = self.net.head
        z = x
        for layer in layers:
            z = layer(z)
        similar = [cosine_similarity(z.flatten(1), head(x).flatten(1)) for head in self.heads]
        sent, unasked = noise(z), z.new_zeros(len(z), *self.net.returned)
        bodies = list(self.net.body.nets)  # type: ignore[arg-type]
        answers = [body(sent) if i in self.chosen else unasked for i, body in enumerate(bodies)]
        logits = self.net.tail(torch.cat(answers, 1))
        return torch.cat([logits, torch.stack(similar, 1).amax(1, keepdim=True)], 1)


def _noisy(net: SplitNetwork, sigma: float, rng: Rng) -> SplitNetwork:
    """With fixed noise after the head, on the device of its weights."""
    device = next(net.parameters()).device
    noise = FixedNoise((sigma * rng.normal(*net.sent)).to(device))
    return net.with_parts(head=appended(net.head, "noise", noise))


def _plain(head: nn.Sequential) -> nn.Sequential:
    """A copy without the noise, which is its last layer."""
    return deepcopy(head[:-1])


def _part(weights: Tensors, name: str) -> dict[str, Tensor]:
    """What is called ``<name>.<...>``, under the rest of its name."""
    return {n.removeprefix(f"{name}."): w for n, w in weights.items() if n.startswith(f"{name}.")}
