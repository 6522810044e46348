"""Federated SGD: in every round each client sends the gradient of one batch, and the server takes the step."""

from __future__ import annotations

import torch
from torch import Tensor

from privsweep.fl_setting.base import AskedForProperties
from privsweep.fl_setting.federated import Federated
from privsweep.interface.component import component
from privsweep.interface.data import Architecture, Data
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule
from privsweep.training.aggregation import server_mean, weighted_mean
from privsweep.training.frozen import train_mode, unfrozen
from privsweep.training.local import beside_parameters, gradient, weights_of
from privsweep.training.log import Log
from privsweep.training.stepper import Stepper


@component
class FedSGD(AskedForProperties, Federated):
    """One gradient a client and round (McMahan et al., 2017, section 2); the server's optimiser keeps its state.

    Every client's running statistics of normalisation layers begin with those of the round before; their mean is
    taken, weighted by examples, as in ``fedavg``.
    """

    def version_with(self, model: Architecture) -> int:
        """1 where several clients' batches once moved running statistics one after the other, lost ones too.

        A model that does not say how it normalises may do so by the batch.
        """
        by_batch = getattr(model, "norm", "batch") == "batch"
        return int(by_batch and self.rounds > 0 and self.participants(self.clients) > 1)

    def __post_init__(self) -> None:
        if self.capture.what == "difference":
            raise UserError("fl_setting.capture.what=difference: clients of fedsgd share gradients; take gradient")
        if self.capture.step:
            raise UserError(
                f"fl_setting.capture.step={self.capture.step}: clients of fedsgd take no local steps; take 0"
            )

    def local_schedule(self) -> LocalSchedule:
        return LocalSchedule(self.rule(), 1, 1, self.batch_size)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        loss, names = defense.loss(data.domain.loss), unfrozen(net)
        stepper = Stepper(self.rule(), [net.get_parameter(name) for name in names])
        splits = self.splits(data, self.shards(data, rng))
        log = Log(data, net, self.rounds, self.checkpoints, bench, self.evaluate_every)
        log.add(0, weights_of(net))
        kept = log.go_on(0)
        net.load_state_dict(dict(log.latest))
        stepper.remember(kept.state)
        device = data.train.labels.device
        for done in range(kept.done, self.rounds):
            train_mode(net, set(names))
            here = rng.child("round", done)
            before = beside_parameters(net)
            updates, sizes, losses, statistics = [], [], [], []
            for client in self.sampled(done, rng):
                own, own_rng = splits[client], here.child("client", client)
                net.load_state_dict(before, strict=False)
                expected = min(self.batch_size, len(own))
                batch = self._batch(len(own), defense, own_rng).to(device)
                x, y = data.domain.inputs_of(own, batch), own.labels[batch]
                grads, value = gradient(net, loss, x, y, defense, own_rng, expected)
                updates.append(defense.update(grads, own_rng.child("update")))
                statistics.append(beside_parameters(net))
                sizes.append(expected)
                losses.append(value)
            summed, surviving = server_mean(updates, sizes, defense, here)
            mean = defense.aggregate(summed, len(surviving), here.child("aggregate"))
            stepper.step([mean[name] for name in names])
            heard = [statistics[n] for n in surviving], [sizes[n] for n in surviving]
            net.load_state_dict(weighted_mean(*heard), strict=False)
            log.add(done + 1, weights_of(net), torch.stack(losses).mean().item())
            log.keep(0, done + 1, 0, stepper.state)
        return log.system()

    def _batch(self, examples: int, defense: Defense, rng: Rng) -> Tensor:
        """Positions of a client's batch, of one round."""
        if "sample" in defense.acts_at():
            return defense.sample(examples, self.batch_size, rng.child("sample"))
        return rng.permutation(examples)[: self.batch_size]

    def used_by(self, examples: int, defense: Defense, rng: Rng) -> Tensor:
        return torch.zeros(examples, dtype=torch.bool).index_fill(0, self._batch(examples, defense, rng), True)
