"""Shadow networks: what a server that knows its own part alone takes for a client's head.

A shadow head and a shadow tail are trained around the server's frozen networks until the whole classifies the
adversary's own images (He et al., "Model inversion attacks against collaborative inference", 2019, section 5.3;
Ensembler, section 2.2).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from privsweep.activation_inversion.statistics import BesideStatistics
from privsweep.interface.data import ImageSet, Tensors, TokenSet
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import Knowledge
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Training, labelled
from privsweep.metric.accuracy import accuracy, outputs_of
from privsweep.model.ensemble import Bodies, LearntSelector, Selector, widened
from privsweep.model.loss_term import PlusLastOutput
from privsweep.model.perturbation import Perturbation
from privsweep.model.split_network import SplitNetwork
from privsweep.training.fit import fit
from privsweep.training.stacked import Parallel

_ANSWERED = 200  # examples judged at once
_SPEAKS = 20  # steps between two lines of progress


@dataclass(frozen=True)
class Choice:
    """Which of the server's networks a shadow network is built around, and how their answers are weighed."""

    networks: tuple[int, ...]
    learnt: bool  # the weights are trained; else all alike

    @property
    def name(self) -> str:
        return "adaptive" if self.learnt else "net_" + "_".join(map(str, self.networks))


def subsets(networks: int) -> list[tuple[int, ...]]:
    """All choices of at least one of so many networks, the smaller ones first."""
    return [chosen for size in range(1, networks + 1) for chosen in combinations(range(networks), size)]


def server_networks(part: nn.Module) -> list[nn.Module]:
    """The networks that a server holds: one, or several beside each other."""
    return list(part.nets) if isinstance(part, Bodies) else [part]


def shadow_network(known: Knowledge, choice: Choice, convolutions: int, rng: Rng) -> SplitNetwork:
    """A head like the client's with ``convolutions`` 3x3 convolutions behind it, the server's networks, and a tail.

    Those convolutions have as many channels as leave the head, with ReLU between: they stand for the noise that a
    client may add (Ensembler, section 5.1: three convolutional layers of 64 channels, "the first one simulating" the
    client's, "and the other two" the noise). They begin as the identity (ours): without it a shadow often gets stuck.

    Where the defence is known, what it draws anew for every query, and drew in training, stands last there (ours).
    """
    net = known.architecture.build(known.domain, rng.child("architecture"))
    assert isinstance(net, SplitNetwork)
    nets = server_networks(known.server_part)
    chosen = [deepcopy(nets[i]) for i in choice.networks]
    with seeded(rng.child("layers")):
        channels = net.sent[0]
        layers: list[tuple[str, nn.Module]] = list(net.head.named_children())
        for n in range(1, convolutions + 1):
            layers += [(f"shadow_act{n}", nn.ReLU())] if n > 1 else []
            same = nn.Conv2d(channels, channels, 3, padding=1)
            nn.init.dirac_(same.weight)
            assert same.bias is not None
            nn.init.zeros_(same.bias)
            layers.append((f"shadow_conv{n}", same))
        layers += perturbations(known, rng, afterwards=False)
        tail = net.tail
        if len(chosen) > 1:
            weigh = LearntSelector(len(chosen)) if choice.learnt else Selector(len(chosen), range(len(chosen)))
            wide = widened(net.tail, len(chosen))
            tail = nn.Sequential(OrderedDict([("selector", weigh), *wide.named_children()]))
    body = Bodies(chosen) if len(chosen) > 1 else chosen[0]
    return net.with_parts(head=nn.Sequential(OrderedDict(layers)), body=body, tail=tail)


def perturbations(known: Knowledge, rng: Rng, *, afterwards: bool) -> list[tuple[str, nn.Module]]:
    """What the defence, where it is known, does anew to the features of every query, by layer, with its own draws.

    afterwards: what it added to the finished network, in place of what that was trained with.
    """
    if "defense" not in known.granted():
        return []
    client = known.defense.architecture.build(known.domain, rng.child("architecture"))
    defended = known.defense.defense.model(client, rng.child("defense"))
    assert isinstance(defended, SplitNetwork)
    added = [n for n in defended.head if isinstance(n, Perturbation) and n.afterwards == afterwards]
    imitated = [own for layer in added if (own := layer.imitated()) is not None]
    return [(f"shadow_{'later' if afterwards else 'noise'}{n}", own) for n, own in enumerate(imitated, 1)]


def _sending(known: Knowledge, net: SplitNetwork, rng: Rng) -> nn.Module:
    """The trained shadow's head, in eval mode, with what the defence added to the finished network."""
    later = OrderedDict(perturbations(known, rng, afterwards=True))
    device = next(net.parameters()).device
    return nn.Sequential(OrderedDict([*net.head.named_children(), *later.items()])).to(device).eval()


@dataclass(frozen=True)
class Shadows:
    """Trained shadow networks of one kind."""

    heads: list[nn.Module]  # in eval mode, with what the defence does to a query
    tails: list[nn.Module]
    losses: Tensor  # [R]: cross-entropy on own images that no shadow was trained on
    accuracies: Tensor  # [R], on the same
    activations: Tensor  # [R, networks of the server]: what each weighs their answers by


def train_shadows(
    known: Knowledge,
    choices: Sequence[Choice],
    convolutions: int,
    schedule: LocalSchedule,
    held: ImageSet | TokenSet,
    own: ImageSet | TokenSet,
    rng: Rng,
    bench: Bench,
    parallel: Parallel,
    statistics: float = 0.0,
    restarts: int = 1,
) -> Shadows:
    """Shadows for choices of as many networks each, trained on ``own`` and judged on ``held``.

    statistics: weight of the distance from what the server's batch normalisation has seen, see ``BesideStatistics``.
    restarts: shadows for every choice, from other initial values; the one with the least loss on ``held`` is kept.
    """
    if restarts > 1:
        given = (known, choices, convolutions, schedule, held, own)
        tried = [train_shadows(*given, rng.child("restart", n), bench, parallel, statistics) for n in range(restarts)]
        return _best(tried)
    rngs = [rng.child(choice.name) for choice in choices]
    nets = [shadow_network(known, g, convolutions, r).to(bench.device) for g, r in zip(choices, rngs, strict=True)]
    trained: list[nn.Module] = [*nets]
    loss, prefix = known.domain.loss, ""
    if statistics:
        trained = [BesideStatistics(net, net.body) for net in nets]
        loss, prefix = PlusLastOutput(loss, statistics), "net."
    states = [net.state_dict() for net in trained]
    start = {name: torch.stack([state[name] for state in states]) for name in states[0]}
    every = torch.arange(len(own), device=own.labels.device)
    learns = [part for part in ("head", "tail") if any(True for _ in getattr(nets[0], part).parameters())]
    trainable = [prefix + part for part in learns]
    data = labelled(own, known.domain, [every] * len(nets))  # type: ignore[arg-type]  # of the domain's own kind

    def watch(done: int, total: int, losses: Tensor) -> None:
        if done % _SPEAKS == 0:
            bench.tick(done, total, shadow_loss=losses.mean().item())

    # Gradients reach the head through the server's networks, which stay as they are.
    fitted = fit(Training(trained[0], start, trainable, loss, data, schedule, rngs), parallel=parallel, watch=watch)
    weights = {name.removeprefix(prefix): w for name, w in fitted.weights.items()}
    judged = [_judge(net, _replica(weights, k), held, known) for k, net in enumerate(nets)]
    activations = torch.zeros(len(nets), len(server_networks(known.server_part)), device=bench.device)
    for k, (net, choice) in enumerate(zip(nets, choices, strict=True)):
        net.load_state_dict(_replica(weights, k))
        weigh = net.tail[0]
        learnt = weigh.scores.softmax(0) if isinstance(weigh, LearntSelector) else 1 / len(choice.networks)
        activations[k, list(choice.networks)] = torch.as_tensor(learnt, device=bench.device).detach()
    return Shadows(
        [_sending(known, net, r) for net, r in zip(nets, rngs, strict=True)],
        [net.tail.eval() for net in nets],
        torch.tensor([loss for loss, _ in judged], device=bench.device),
        torch.tensor([right for _, right in judged], device=bench.device),
        activations,
    )


def _best(tried: Sequence[Shadows]) -> Shadows:
    """Of several shadows for the same choices, those that judge best."""
    winners = torch.stack([shadows.losses for shadows in tried]).nan_to_num(torch.inf).argmin(0).tolist()
    won = [(tried[n], k) for k, n in enumerate(winners)]
    return Shadows(
        [shadows.heads[k] for shadows, k in won],
        [shadows.tails[k] for shadows, k in won],
        torch.stack([shadows.losses[k] for shadows, k in won]),
        torch.stack([shadows.accuracies[k] for shadows, k in won]),
        torch.stack([shadows.activations[k] for shadows, k in won]),
    )


def _replica(weights: Tensors, k: int) -> dict[str, Tensor]:
    return {name: w[k] for name, w in weights.items()}


@torch.no_grad()
def _judge(net: nn.Module, weights: Tensors, held: ImageSet | TokenSet, known: Knowledge) -> tuple[float, float]:
    """Mean loss and accuracy on the examples that are held back."""
    total = 0.0
    for rows, outputs in outputs_of(net, weights, held, known.domain, _ANSWERED):
        labels = held.labels[rows]
        total += known.domain.loss(outputs, labels).item() * len(labels)
    return total / len(held), accuracy(net, weights, held, known.domain, _ANSWERED)
