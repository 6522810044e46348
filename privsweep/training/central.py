"""The training of one party that holds all data: epoch by epoch, or in the stages of a defence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from privsweep.interface.data import Data, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Training, alike, labelled, replica
from privsweep.training.fit import Halfway, fit, some, together
from privsweep.training.local import weights_of
from privsweep.training.log import Kept, Log
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
    once = _Fit(defense, log, parallel)
    log.end_with(replica(defense.fit(once, training, fresh, rng.child("fit")), 0))


_KEPT = _WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


@dataclass
class _Fit:
    """What a defence calls for each of its stages: epoch by epoch, with one optimiser.

    One whole network is noted in ``log``, behind what is there. Of several, those that are finished are kept for the
    process that goes on after a kill.
    """

    defense: Defense
    log: Log
    parallel: Parallel
    stages: int = 0  # called so far

    def __call__(self, training: Training) -> Tensors:
        stage, self.stages = self.stages, self.stages + 1
        if len(training.rngs) == 1:
            return self._fit(training, alone=True)
        size = together(training, self.defense, self.parallel, rounds=training.schedule.epochs)
        bench = self.log.bench
        return bench.chunks(
            "stage", str(stage), len(training.rngs), size, lambda part: self._fit(some(training, part), alone=False)
        )

    def _fit(self, training: Training, alone: bool) -> Tensors:
        log, stage = self.log, self.stages
        kept = log.go_on(stage) if alone else Kept(0, len(log.curve), {})
        parts = {part: {n.removeprefix(part): t for n, t in kept.state.items() if n.startswith(part)} for part in _KEPT}
        if kept.done:
            training = replace(training, start=parts[_WEIGHTS])
        halfway = Halfway(kept.done, parts[_OPTIMIZER]) if kept.done else None

        def after(done: int, weights: Tensors, losses: Tensor, optimizer: Callable[[], Tensors]) -> None:
            if alone and weights.keys() == log.latest.keys():
                log.add(kept.before + done, replica(weights, 0), losses.item())
            else:
                log.bench.tick(done, training.schedule.epochs, loss=losses.mean().item())
            if alone and done < epochs:
                told = {_WEIGHTS: lambda: weights, _OPTIMIZER: optimizer}
                log.keep(
                    stage, done, kept.before, lambda: {p + n: t for p, tell in told.items() for n, t in tell().items()}
                )

        epoch, epochs = replace(training.schedule, epochs=1), training.schedule.epochs
        given = replace(training, schedule=epoch)
        return fit(given, self.defense, parallel=self.parallel, rounds=epochs, after=after, halfway=halfway).weights
