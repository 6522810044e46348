"""Federated averaging: clients train locally, the server averages what they send."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.aggregation import server_mean
from privsweep.component import component
from privsweep.federation import Count, Federated, Log, weighted_mean
from privsweep.game import Architecture, Bench, Data, System, Tensors
from privsweep.protection import Defense
from privsweep.randomness import Rng
from privsweep.training import (
    Parallel,
    Plan,
    choose,
    parameters_of,
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
    parallel: Parallel  # auto: stacked on a GPU, in turn on the CPU; same weights to rounding

    def plan(self) -> Plan:
        return Plan(self.rule(), self.local_epochs, self.local_steps, self.batch_size)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        loss, plan = defense.loss(cross_entropy), self.plan()
        splits = self.splits(data, self.shards(data, rng))
        local = train_stacked if choose(self.parallel, net, data.train.images.device, defense) else train_in_turn
        weights: Tensors = weights_of(net)
        log = Log(data, net, self.rounds, self.checkpoints, bench)
        log.add(0, weights)
        for done in range(self.rounds):
            here = rng.child("round", done)
            chosen = self.sampled(done, rng)
            owns = [splits[c] for c in chosen]
            rngs = [here.child("client", c) for c in chosen]
            after, losses = local(net, weights, owns, data.domain, plan, loss, defense, rngs)
            shares = [self._share(net, weights, a, defense, r) for a, r in zip(after, rngs, strict=True)]
            sizes = [len(own) for own in owns]
            summed, heard = server_mean(shares, sizes, defense, here)
            mean = defense.aggregate(summed, len(heard), here.child("aggregate"))
            averaged = weighted_mean([after[n] for n in heard], [sizes[n] for n in heard])
            weights = {**averaged, **{name: weights[name] + d for name, d in mean.items()}}
            log.add(done + 1, weights, losses.mean().item())
        return log.system()

    def _share(self, net: nn.Module, start: Tensors, after: Tensors, defense: Defense, rng: Rng) -> Tensors:
        delta = {name: w - start[name] for name, w in parameters_of(net, after).items()}
        return defense.update(delta, rng.child("update"))

    def local_weights(
        self,
        done: int,
        weights: Tensors,
        net: nn.Module,
        shards: Sequence[Tensor],
        data: Data,
        defense: Defense,
        rng: Rng,
    ) -> Tensors:
        client = self.capture.client
        own = self.splits(data, [shards[client]])[0]
        plan = Plan(self.rule(), self.local_epochs, self.capture.step, self.batch_size)
        net.load_state_dict(dict(weights))
        own_rng = rng.child("round", done, "client", client)
        train(net, own, data.domain, plan, defense.loss(cross_entropy), defense, own_rng)
        return weights_of(net)
