"""The training of one party that holds all data: epoch by epoch, or in the stages of a defence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from privsweep.interface.data import Data, Loss, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Training, labelled, replica, some
from privsweep.training.fit import Halfway, fit, together
from privsweep.training.local import weights_of
from privsweep.training.log import Kept, Log, go_on, keep, part
from privsweep.training.stacked import Parallel, at_once


def train_centrally(
    nets: Sequence[nn.Module],
    fresh: Callable[[Rng], nn.Module],
    data: Data,
    loss: Loss,
    schedule: LocalSchedule,
    defenses: Sequence[Defense],
    rngs: Sequence[Rng],
    logs: Sequence[Log],
    *,
    augment: Callable[[Tensor, Rng], Tensor] | None = None,
    parallel: Parallel = "auto",
) -> None:
    """Trains a network as its defence's ``fit`` says, by default once; its log keeps what comes out.

    Several networks, which differ in their values, streams and defences of a gradient alone, are trained at once, to
    rounding as each would be by itself; not where a defence trains in stages.

    fresh: such a network as it is before any defence, on the data's device, with initial values of its own.
    """
    starts = [weights_of(net) for net in nets]
    for log, start in zip(logs, starts, strict=True):
        log.add(0, start)
    stacked = {name: torch.stack([start[name] for start in starts]) for name in starts[0]}
    examples = labelled(data.train, data.domain, [torch.arange(len(data.train))] * len(nets), augment)
    training = Training(nets[0], stacked, None, loss, examples, schedule, rngs)
    once = _Fit(defenses, logs, parallel if len(nets) == 1 else at_once(data.train.labels.device))
    ends = defenses[0].fit(once, training, fresh, rngs[0].child("fit"))
    for k, log in enumerate(logs):
        log.end_with(replica(ends, k))


_WEIGHTS, _OPTIMIZER = "weights/", "optimizer/"


def _state(weights: Tensors, optimizer: Tensors) -> Tensors:
    """Both in one, by prefixed names."""
    return {f"{_WEIGHTS}{n}": t for n, t in weights.items()} | {f"{_OPTIMIZER}{n}": t for n, t in optimizer.items()}


@dataclass
class _Fit:
    """What a defence calls for each of its stages: epoch by epoch, with one optimiser.

    Whole networks, one a log, are noted there, behind what is there. Of several in one stage, those that are finished
    are kept for the process that goes on after a kill.
    """

    defenses: Sequence[Defense]
    logs: Sequence[Log]
    parallel: Parallel
    stages: int = 0  # called so far

    def __call__(self, training: Training) -> Tensors:
        stage, self.stages = self.stages, self.stages + 1
        if len(training.rngs) == len(self.logs):
            return self._fit(training, stage)
        size = together(training, self._each(training), self.parallel, rounds=training.schedule.epochs)
        bench = self.logs[0].bench
        return bench.chunks(
            "stage", str(stage), len(training.rngs), size, lambda part: self._fit(some(training, part), None)
        )

    def _fit(self, training: Training, stage: int | None) -> Tensors:
        """``stage``: of networks with a log each, whose state is kept within it."""
        logs, first = self.logs, self.logs[0]
        kept = Kept(0, len(first.curve), {}) if stage is None else go_on(logs, stage)
        halfway = None
        if kept.done:
            training = replace(training, start=part(_WEIGHTS, kept.state))
            halfway = Halfway(kept.done, part(_OPTIMIZER, kept.state))

        def after(done: int, weights: Tensors, losses: Tensor, optimizer: Callable[[], Tensors]) -> None:
            if stage is not None and weights.keys() == first.latest.keys():
                for k, (log, loss) in enumerate(zip(logs, losses.tolist(), strict=True)):
                    log.add(kept.before + done, replica(weights, k), loss)
            else:
                first.bench.tick(done, training.schedule.epochs, loss=losses.mean().item())
            if stage is not None and done < epochs:
                keep(logs, stage, done, kept.before, lambda: _state(weights, optimizer()))

        epoch, epochs = replace(training.schedule, epochs=1), training.schedule.epochs
        given, defenses = replace(training, schedule=epoch), self._each(training)
        return fit(given, defenses, parallel=self.parallel, rounds=epochs, after=after, halfway=halfway).weights

    def _each(self, training: Training) -> Sequence[Defense]:
        """Of every replica; a stage may have more of them than there are networks."""
        count = len(training.rngs)
        return self.defenses if len(self.defenses) == count else [self.defenses[0]] * count
