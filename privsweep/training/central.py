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


_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


def _state(weights: Tensors, optimizer: Tensors) -> Tensors:
    """Both in one, by prefixed names."""
    return {f"{_WEIGHTS}{n}": t for n, t in weights.items()} | {f"{_OPTIMIZER}{n}": t for n, t in optimizer.items()}


def _part(prefix: str, state: Tensors) -> Tensors:
    return {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}


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
            return self._fit(training, stage)
        size = together(training, self.defense, self.parallel, rounds=training.schedule.epochs)
        bench = self.log.bench
        return bench.chunks(
            "stage", str(stage), len(training.rngs), size, lambda part: self._fit(some(training, part), None)
        )

    def _fit(self, training: Training, stage: int | None) -> Tensors:
        """``stage``: of one network by itself, whose state is kept within it."""
        log = self.log
        kept = Kept(0, len(log.curve), {}) if stage is None else log.go_on(stage)
        halfway = None
        if kept.done:
            training = replace(training, start=_part(_WEIGHTS, kept.state))
            halfway = Halfway(kept.done, _part(_OPTIMIZER, kept.state))

        def after(done: int, weights: Tensors, losses: Tensor, optimizer: Callable[[], Tensors]) -> None:
            if stage is not None and weights.keys() == log.latest.keys():
                log.add(kept.before + done, replica(weights, 0), losses.item())
            else:
                log.bench.tick(done, training.schedule.epochs, loss=losses.mean().item())
            if stage is not None and done < epochs:
                log.keep(stage, done, kept.before, lambda: _state(weights, optimizer()))

        epoch, epochs = replace(training.schedule, epochs=1), training.schedule.epochs
        given = replace(training, schedule=epoch)
        return fit(given, self.defense, parallel=self.parallel, rounds=epochs, after=after, halfway=halfway).weights
