"""What the server sees in collaborative inference: what a client's head makes of queries, at test time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from privsweep.exposure.activations import forwarded
from privsweep.exposure.federation import Federation
from privsweep.exposure.query_cost import cost
from privsweep.exposure.victims import Victims
from privsweep.interface.data import Architecture, Data, TextDomain
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Defended, Exposure, Knowledge, System
from privsweep.interface.translation import TranslationDomain
from privsweep.interface.truth import Images, Sentences, Truth
from privsweep.metric.translation import translated
from privsweep.model.checkpoint import FromCheckpoint, without_weights
from privsweep.model.ensemble import Selector
from privsweep.model.perturbation import Perturbation
from privsweep.model.split_network import SplitArchitecture, SplitNetwork

Access = Literal["query_free", "black_box", "white_box"]
_ROUNDING = 1e9  # a ratio above it is float32's own
_AT_ONCE = 256  # inputs that pass the head together


class Client(nn.Module):
    """What a client sends: its head's outputs, as the defence lets them pass; the n-th call has draws of its own."""

    def __init__(self, head: nn.Module, defense: Defense, rng: Rng):
        super().__init__()
        self._head, self._defense, self._rng, self._asked = head.eval(), defense, rng, 0

    def forward(self, x: Tensor) -> Tensor:
        own = self._rng.child(self._asked)
        self._asked += 1
        return torch.cat([self.sent(part, own.child(n)) for n, part in enumerate(x.split(_AT_ONCE))])

    def sent(self, x: Tensor, rng: Rng) -> Tensor:
        """For inputs ``[n, ...]``, with draws from ``rng``."""
        return self._defense.activations(forwarded(self._head, x, rng.child("noise")), rng.child("activations"))

    def extra_repr(self) -> str:
        return f"{getattr(self._defense, 'defenses', self._defense)}, {self._rng}"


@dataclass(frozen=True)
class QueryView:
    """One message for each victim, a test image. Ensembler, section 2.2: test time, a server that answers queries.

    It knows the body of the network with its weights, the architecture of all (not what ``model.weights`` has it begin
    with), and the defence, but not what that drew. The rest is ``access``: nothing more
    (``query_free``), the answers to queries of its own (``black_box``), or the head (``white_box``).

    With ``queries_kept`` it has also kept the features of so many other queries, of test images that are drawn whoever
    the victims are, so that these stay independent of each other.

    What is measured: ``snr``, the power of the head's outputs by that of what perturbs them, in dB, where something
    does; ``bytes_up`` and ``bytes_down``, what one query sends and brings back; ``attacker_combinations``, the sets of
    server networks that a client might use. And seconds a query, one by one: ``client_query``, ``server_query``.
    """

    federation: Federation
    cut: Callable[[Architecture], SplitArchitecture]
    victims: Victims
    access: Access
    training_data_known: bool
    selector_known: bool
    queries_kept: int

    observation: ClassVar[type[Activations]] = Activations
    reports: ClassVar[frozenset[str]] = frozenset(
        {"snr", "bytes_up", "bytes_down", "attacker_combinations", "client_query", "server_query"}
    )
    time: ClassVar[Literal["train", "test"]] = "test"
    position: ClassVar[Literal["client", "server", "off-path"]] = "server"
    calls: ClassVar[frozenset[str]] = frozenset({"model", "loss", "activations"})

    def version_with(self, model: Architecture) -> int:
        """1 where the architecture once came with the weights of a file, the head's among them."""
        return int(isinstance(model, FromCheckpoint))

    @property
    def grants(self) -> frozenset[str]:
        more = {"query_free": set(), "black_box": {"query"}, "white_box": {"query", "model", "message_size"}}[
            self.access
        ]
        own = {"prior"} if self.training_data_known else set()
        told = {"selector"} if self.selector_known else set()
        kept = {"received"} if self.queries_kept else set()
        return frozenset({"domain", "loss", "architecture", "defense", "server_part"} | more | own | told | kept)

    def check(self, data: Data, model: Architecture, defense: Defense, rng: Rng) -> None:
        """Raises UserError where there are fewer test images than queries, or no selector that could be known."""
        self.victims.check_choice(data.test.labels)
        if self.selector_known:
            with torch.device("meta"):
                _selector(self.federation.assembled(data.domain, model, defense, rng))
        if self.victims.count > len(data.test):
            raise UserError(
                f"fl_setting.victims={self.victims.count}: there are {len(data.test)} test examples; take fewer victims"
            )
        if self.queries_kept > len(data.test):
            raise UserError(
                f"fl_setting.queries_kept={self.queries_kept}: there are {len(data.test)} test examples; take fewer"
            )
        if self.queries_kept == 1:
            raise UserError("fl_setting.queries_kept=1: one query has no moments; take two or more, or none")

    def expose(self, system: System, data: Data, model: Architecture, defense: Defense, rng: Rng) -> Exposure:
        net = self.federation.network(data, model, defense, rng)
        assert isinstance(net, SplitNetwork)
        net.load_state_dict(dict(system.snapshots[system.last]))
        net.eval()
        own = rng.child("exposure")
        device = data.test.labels.device
        index = self.victims.draw(0, torch.arange(len(data.test)), data.test.labels.cpu(), 1, own)
        at = index[:, 0].to(device)
        x, client = data.domain.queries_of(data.test, at), Client(net.head, defense, own.child("victims"))
        # One by one, so that what is drawn for a victim does not depend on the others.
        z = torch.stack([client.sent(x[v, None], own.child("victim", v)) for v in range(len(x))])
        told = self.cut(without_weights(model))
        known = Knowledge(
            domain=data.domain,
            loss=defense.loss(data.domain.loss),
            architecture=told,
            defense=Defended(defense, told) if defense.acts_at() else None,
            server_part=net.body,
            prior=data.train if self.training_data_known else None,
            query=None if self.access == "query_free" else Client(net.head, defense, own.child("queries")),
            model=net.head if self.access == "white_box" else None,
            message_size=0 if self.access == "white_box" else None,  # the client computes in eval mode
            selector=_selector(net) if self.selector_known else None,
            received=self._received(net.head, data, defense, own) if self.queries_kept else None,
        )
        seen = Activations(z=z, cut=list(net.head._modules)[-1], weights=None, examples=1)
        measures, seconds = cost(net, x[:1])
        return Exposure(
            seen,
            known,
            _truth(data, net, at, index),
            measures | _noise(net.head, x, z[:, 0], own.child("clean")),
            seconds,
        )

    def _received(self, head: nn.Module, data: Data, defense: Defense, rng: Rng) -> Tensor:
        """``[Q, ...]`` for test images that are drawn from all of them."""
        rows = rng.child("kept").permutation(len(data.test))[: self.queries_kept].to(data.test.labels.device)
        client = Client(head, defense, rng.child("received"))
        sent = [client(data.domain.queries_of(data.test, part)) for part in rows.split(_AT_ONCE)]
        return torch.cat(sent)


def _selector(net: nn.Module) -> Tensor:
    found = [layer.activation for layer in net.modules() if isinstance(layer, Selector)]
    if not found:
        raise UserError(
            "fl_setting.selector_known=true: the client selects nothing; take defense=[ensembler], or false"
        )
    return found[0].clone()


def _truth(data: Data, net: nn.Module, at: Tensor, index: Tensor) -> Truth:
    split, domain = data.test, data.domain
    if not isinstance(domain, TextDomain):
        return Images(pixels=split.pixels(at)[:, None], labels=split.labels[at][:, None], index=index)
    queries = domain.queries_of(split, at)
    answers = translated(net, queries, domain)[:, None] if isinstance(domain, TranslationDomain) else None
    return Sentences(domain.sources(queries)[:, None].clone(), index, answers)


def _noise(head: nn.Sequential, x: Tensor, sent: Tensor, rng: Rng) -> dict[str, float]:
    """The signal-to-noise ratio of what is sent, in dB; nothing where nothing perturbs it."""
    plain = nn.Sequential(OrderedDict((n, c) for n, c in head.named_children() if not isinstance(c, Perturbation)))
    clean = forwarded(plain, x, rng)
    noise = (sent - clean).square().mean()
    ratio = (clean.square().mean() / noise).item() if noise > 0 else math.inf
    return {"snr": 10 * math.log10(ratio)} if ratio < _ROUNDING else {}
