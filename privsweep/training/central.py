"""The training of one party that holds all data: epoch by epoch, or in the stages of a defence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from privsweep.interface.data import Data, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Training, alike, labelled, replica
from privsweep.training.fit import fit
from privsweep.training.local import weights_of
from privsweep.training.log import Log
from privsweep.training.stacked import Parallel


def train_centrally(
    net: nn.Module,
    fresh: Callable[[Rng], nn.Module],
    data: Data,
    loss: Loss,
    schedule: LocalSchedule,
    defense: Defense,
    rng: Rng,
    log: Log,
    *,
    augment: Callable[[Tensor, Rng], Tensor] | None = None,
    parallel: Parallel = "auto",
) -> None:
    """Trains ``net`` as ``defense.fit`` says, by default once; ``log`` keeps what comes out.

    fresh: such a network as it is before any defence, on the data's device, with initial values of its own.
    """
    log.add(0, weights_of(net))
    examples = labelled(data.train, data.domain, [torch.arange(len(data.train))], augment)
    training = Training(net, alike(weights_of(net), 1), None, loss, examples, schedule, [rng])
    once = partial(_fit, defense=defense, log=log, parallel=parallel)
    log.end_with(replica(defense.fit(once, training, fresh, rng.child("fit")), 0))


def _fit(training: Training, defense: Defense, log: Log, parallel: Parallel) -> Tensors:
    """Epoch by epoch, with one optimiser; noted in ``log`` where it is of one whole network, behind what is there."""
    before = len(log.curve)

    def after(done: int, weights: Tensors, losses: Tensor) -> None:
        if len(training.rngs) == 1 and weights.keys() == log.latest.keys():
            log.add(before + done, replica(weights, 0), losses.item())
        else:
            log.bench.tick(done, training.schedule.epochs, loss=losses.mean().item())

    epoch, epochs = replace(training.schedule, epochs=1), training.schedule.epochs
    return fit(replace(training, schedule=epoch), defense, parallel=parallel, rounds=epochs, after=after).weights
