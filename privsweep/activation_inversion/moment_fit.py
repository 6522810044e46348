"""A head that sends features with the moments of those that were received, though nobody tells of which images."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from privsweep.activation_inversion.moments import DistanceOf, Moments
from privsweep.activation_inversion.own_activations import AT_ONCE
from privsweep.activation_inversion.shadow import perturbations
from privsweep.exposure.activations import forwarded
from privsweep.interface.data import ImageSet
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Knowledge
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Training, labelled, replica
from privsweep.model.perturbation import FixedNoise
from privsweep.model.split_network import SplitNetwork, appended
from privsweep.training.fit import fit
from privsweep.training.stacked import Parallel

_TURNS = 4  # parts of the training, between which filters change their sign
_JUDGED = 512  # images that a distance is judged by, at most
_SPEAKS = 20  # steps between two lines of progress


@dataclass(frozen=True)
class FittedHead:
    head: nn.Module  # in eval mode, with what the defence does to a query
    distance: Tensor  # [], from what was received, on own images that it was not fitted on


def fitted_head(
    known: Knowledge,
    schedule: LocalSchedule,
    held: ImageSet,
    own: ImageSet,
    restarts: int,
    rng: Rng,
    bench: Bench,
    parallel: Parallel,
) -> FittedHead:
    """Of so many heads from other initial values the one whose features of ``held`` have most nearly those moments.

    Each is trained on ``own``, in turns, with the rate of ``schedule`` in each. As gradients lead to no filter of the
    other sign, between turns every one whose change of sign brings the moments nearer changes it.

    Where the defence is known, what it draws for a query stands last, with draws of its own. What the client adds to
    every query alike, such as noise that is drawn once, is read off the mean of what was received, and added.
    """
    received = Moments.of(known.received)
    rngs = [rng.child("restart", n) for n in range(restarts)]
    nets = [DistanceOf(_head(known, one), received).to(bench.device) for one in rngs]
    every = torch.arange(len(own), device=own.labels.device)
    examples, some = labelled(own, known.domain, [every] * restarts), known.domain.inputs_of(own, every[:_JUDGED])
    turn = replace(schedule, steps=-(-schedule.length(len(own)) // _TURNS))

    def watch(done: int, total: int, losses: Tensor) -> None:
        if done % _SPEAKS == 0:
            bench.tick(done, total, distance=losses.mean().item())

    for n in range(_TURNS):
        if n:
            for net, one in zip(nets, rngs, strict=True):
                _change_signs(net, some, one.child("signs", n))
        states = [net.state_dict() for net in nets]
        start = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        turns = [one.child("turn", n) for one in rngs]
        fitted = fit(Training(nets[0], start, None, _mean, examples, turn, turns), parallel=parallel, watch=watch)
        for k, net in enumerate(nets):
            net.load_state_dict(replica(fitted.weights, k))
    judged = known.domain.inputs_of(held, torch.arange(min(_JUDGED, len(held)), device=held.labels.device))
    found = torch.stack(
        [_distance(net.eval(), judged, one.child("judged")) for net, one in zip(nets, rngs, strict=True)]
    )
    best = int(found.nan_to_num(torch.inf).argmin())
    return FittedHead(_levelled(nets[best].head, known, own, rngs[best].child("level")), found[best])


def _head(known: Knowledge, rng: Rng) -> nn.Sequential:
    """Like the client's, with initial values of its own."""
    net = known.architecture.build(known.domain, rng.child("architecture"))
    assert isinstance(net, SplitNetwork)
    added = [layer for late in (False, True) for layer in perturbations(known, rng, afterwards=late)]
    return nn.Sequential(OrderedDict([*net.head.named_children(), *added]))


def _mean(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.mean()


def _distance(net: DistanceOf, x: Tensor, rng: Rng) -> Tensor:
    return forwarded(net, x, rng)[0, 0]


@torch.no_grad()
def _change_signs(net: DistanceOf, x: Tensor, rng: Rng) -> None:
    """Of the last layer that has weights, in train mode: running means are still those of the other sign."""
    net.train()
    filters = [p for p in net.head.parameters() if p.dim() > 1][-1]
    nearest = _distance(net, x, rng)
    for one in filters:
        one.neg_()
        if (distance := _distance(net, x, rng)) < nearest:
            nearest = distance
        else:
            one.neg_()


def _levelled(head: nn.Sequential, known: Knowledge, own: ImageSet, rng: Rng) -> nn.Module:
    """In eval mode, with what makes the mean of its features that of those received, at every position."""
    head.eval()
    total = torch.zeros_like(known.received[0])
    for n, rows in enumerate(torch.arange(len(own), device=own.labels.device).split(AT_ONCE)):
        total += forwarded(head, known.domain.inputs_of(own, rows), rng.child(n)).sum(0)
    return appended(head, "level", FixedNoise(known.received.mean(0) - total / len(own))).eval()
