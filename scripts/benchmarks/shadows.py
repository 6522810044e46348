"""Shadow models of membership inference (Zen's: four hidden layers of 128 neurons, dropout 0.2): one epoch each, on
random images of CIFAR-10's size; stacked on a leading axis as the program chooses, or one after the other.

Both ways draw the same batches and dropout. Checked first: both give the same weights.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from benchmarks.contest import Case, Contest, DisagreementError, Setup, Turn
from benchmarks.workplace import random_images
from privsweep.defense.stack import Stack
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, labelled, replica
from privsweep.model.mlp import MLP
from privsweep.training.fit import fit
from privsweep.training.stacked import most_together

DOMAIN = Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)
PLAN = LocalSchedule(Optimizer("adam", 1e-4, 0.0), epochs=1, steps=None, batch_size=64)
NETWORK = MLP(width=128, depth=4, activation="relu", dropout=0.2, init="default", init_bound=0.5)


def shadows(setup: Setup) -> Contest:
    counts = (2,) if setup.quick else (5, 16, 64) if setup.device.type == "cpu" else (16, 64, 256)
    records = setup.sized(64, 1280, 5120)
    pool = random_images(2 * records, DOMAIN.shape, 0, setup.device)
    rngs = [Rng(0).child("shadow", k) for k in range(max(counts))]
    index = [Rng(0).child("records", k).permutation(2 * records)[:records] for k in range(max(counts))]

    def fresh(count: int) -> list[nn.Module]:
        return [NETWORK.build(DOMAIN, rng.child("init")).to(setup.device) for rng in rngs[:count]]

    def trained(nets: list[nn.Module], together: int) -> list[dict[str, torch.Tensor]]:
        out = []
        for first in range(0, len(nets), together):
            part = slice(first, min(first + together, len(nets)))
            states = [net.state_dict() for net in nets[part]]
            start = {name: torch.stack([s[name] for s in states]) for name in states[0]}
            examples = labelled(pool, DOMAIN, index[part])
            training = Training(nets[first], start, None, cross_entropy, examples, PLAN, rngs[part])
            weights = fit(training, Stack({}), parallel="stacked").weights
            out += [replica(weights, k) for k in range(len(states))]
        return out

    def turn(count: int, together: int) -> Turn:
        nets = fresh(count)  # training copies what it starts from
        return lambda: len(trained(nets, together))

    def together(count: int) -> int:
        net = NETWORK.build(DOMAIN, Rng(0)).to(setup.device)
        most = most_together(net, DOMAIN.blank(1).to(setup.device), PLAN.batch_size, Stack({}), "auto", 4.0)
        return -(-count // -(-count // most))

    few = min(counts)
    for one, other in zip(trained(fresh(few), 1), trained(fresh(few), few), strict=True):
        # Adam turns the rounding of gradients that are nearly zero into steps of 1e-4.
        if max(float((one[name] - other[name]).abs().max()) for name in one) > 10 * PLAN.optimizer.lr:
            raise DisagreementError("stacked and one by one the weights differ")
    return Contest(turn(few, 1), {f"{n} shadows": turn(n, together(n)) for n in counts})


CASES = {"shadows": Case("shadow models stacked, or one after the other", "a model", shadows)}
