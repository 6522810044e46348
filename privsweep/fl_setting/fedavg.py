"""Federated averaging: clients train locally, the server averages what they send."""

from __future__ import annotations

from torch.nn.functional import cross_entropy

from privsweep.fl_setting.base import Count, Federated, Log
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Architecture, Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import Bench
from privsweep.training.aggregation import averaged
from privsweep.training.local import (
    LocalSchedule,
    Parallel,
    choose,
    train,
    train_in_turn,
    train_stacked,
    weights_of,
)


@component
class FedAvg(Federated):
    """FedAvg (McMahan et al., 2017): the mean of the clients' weights, weighted by their examples.

    An optimiser's state does not outlive a round. Running statistics of normalisation layers are averaged
    like weights. Zen, section 4.2, is three clients, three rounds of ten epochs, Adam 1e-4.
    """

    local_epochs: Count
    local_steps: Count | None  # instead of whole epochs; null: epochs
    parallel: ResourceOnly[Parallel]  # auto: stacked on a GPU, in turn on the CPU; same weights to rounding

    def local_schedule(self) -> LocalSchedule:
        return LocalSchedule(self.rule(), self.local_epochs, self.local_steps, self.batch_size)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        loss, schedule = defense.loss(cross_entropy), self.local_schedule()
        splits = self.splits(data, self.shards(data, rng))
        local = train_stacked if choose(self.parallel, net, data.train.labels.device, defense) else train_in_turn
        weights: Tensors = weights_of(net)
        names = [name for name, _ in net.named_parameters()]
        log = Log(data, net, self.rounds, self.checkpoints, bench)
        log.add(0, weights)
        for done in range(self.rounds):
            here = rng.child("round", done)
            chosen = self.sampled(done, rng)
            owns = [splits[c] for c in chosen]
            rngs = [here.child("client", c) for c in chosen]
            after, losses = local(net, weights, owns, data.domain, schedule, loss, defense, rngs)
            weights = averaged(names, weights, after, [len(own) for own in owns], defense, rngs, here)
            log.add(done + 1, weights, losses.mean().item())
        return log.system()

    def local_weights(
        self, done: int, weights: Tensors, client: int, steps: int, data: Data, model: Architecture, defense: Defense,
        rng: Rng,
    ) -> Tensors:  # fmt: skip
        net = self.network(data, model, defense, rng)
        own = self.splits(data, [self.shards(data, rng)[client]])[0]
        schedule = LocalSchedule(self.rule(), self.local_epochs, steps, self.batch_size)
        net.load_state_dict(dict(weights))
        own_rng = rng.child("round", done, "client", client)
        train(net, own, data.domain, schedule, defense.loss(cross_entropy), defense, own_rng)
        return weights_of(net)
