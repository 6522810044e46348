"""Federated averaging: clients train locally, the server averages what they send."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from privsweep.fl_setting.base import AskedForProperties, Count
from privsweep.fl_setting.federated import Federated
from privsweep.interface.component import ResourceOnly, component
from privsweep.interface.data import Architecture, Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.roles import Bench
from privsweep.interface.training import LocalSchedule, Training, alike, labelled, replica
from privsweep.training.aggregation import averaged
from privsweep.training.fit import Kept, fit
from privsweep.training.local import weights_of
from privsweep.training.log import Log
from privsweep.training.stacked import Parallel


@component
class FedAvg(AskedForProperties, Federated):
    """FedAvg (McMahan et al., 2017): the mean of the clients' weights, weighted by their examples.

    An optimiser's state does not outlive a round. Running statistics of normalisation layers are averaged
    like weights. Zen, section 4.2, is three clients, three rounds of ten epochs, Adam 1e-4.
    """

    local_epochs: Annotated[int, Field(ge=1, le=10_000_000)]
    local_steps: Count | None  # instead of whole epochs; null: epochs
    parallel: ResourceOnly[Parallel]  # auto: abreast on a GPU, in turn on a CPU; alike to rounding

    def local_schedule(self) -> LocalSchedule:
        return LocalSchedule(self.rule(), self.local_epochs, self.local_steps, self.batch_size)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        loss, schedule = defense.loss(data.domain.loss), self.local_schedule()
        shards = self.shards(data, rng)
        # By itself in turn on a CPU, so that who else takes part does not change a client's last bit.
        in_turn = self.parallel == "auto" and data.train.labels.device.type == "cpu"
        parallel: Parallel = "sequential" if in_turn else self.parallel
        weights: Tensors = weights_of(net)
        replicas = Kept()
        log = Log(data, net, self.rounds, self.checkpoints, bench, self.evaluate_every)
        log.add(0, weights)
        kept = log.go_on(0)
        weights = kept.state or weights
        for done in range(kept.done, self.rounds):
            here = rng.child("round", done)
            chosen = self.sampled(done, rng)
            owns = [shards[c] for c in chosen]
            rngs = [here.child("client", c) for c in chosen]
            examples = labelled(data.train, data.domain, owns)
            local = Training(net, alike(weights, len(owns)), None, loss, examples, schedule, rngs)
            fitted = fit(local, defense, parallel=parallel, kept=replicas)
            after = [replica(fitted.weights, k) for k in range(len(owns))]
            weights = averaged(net, weights, after, [len(own) for own in owns], defense, rngs, here)
            log.add(done + 1, weights, fitted.losses.mean().item())
            log.keep(0, done + 1, 0, lambda: log.latest)
        return log.system()

    def local_weights(
        self, done: int, weights: Tensors, client: int, steps: int, data: Data, model: Architecture, defense: Defense,
        rng: Rng,
    ) -> Tensors:  # fmt: skip
        net = self.network(data, model, defense, rng)
        own = labelled(data.train, data.domain, [self.shards(data, rng)[client]])
        schedule = LocalSchedule(self.rule(), self.local_epochs, steps, self.batch_size)
        own_rng = rng.child("round", done, "client", client)
        local = Training(net, alike(weights, 1), None, defense.loss(data.domain.loss), own, schedule, [own_rng])
        return replica(fit(local, defense).weights, 0)
