"""Federated SGD: every client shares the gradient of one batch a round; the server takes the step."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from privsweep.aggregation import server_mean
from privsweep.component import component
from privsweep.errors import UserError
from privsweep.federation import Federated, Log
from privsweep.game import Architecture, Bench, Data, System
from privsweep.protection import Defense
from privsweep.randomness import Rng
from privsweep.training import Plan, gradient, weights_of


@component
class FedSGD(Federated):
    """One gradient a client and round (McMahan et al., 2017, section 2); the server's optimiser keeps its state."""

    def __post_init__(self) -> None:
        if self.capture.what == "difference":
            raise UserError("fl_setting.capture.what=difference: clients of fedsgd share gradients; take gradient")
        if self.capture.step:
            raise UserError(
                f"fl_setting.capture.step={self.capture.step}: clients of fedsgd take no local steps; take 0"
            )

    def plan(self) -> Plan:
        return Plan(self.rule(), 1, 1, self.batch_size)

    def train(self, data: Data, model: Architecture, defense: Defense, rng: Rng, bench: Bench) -> System:
        net = self.network(data, model, defense, rng)
        loss, drawn = defense.loss(cross_entropy), "sample" in defense.acts_at()
        optimizer = self.rule().make(list(net.parameters()))
        splits = self.splits(data, self.shards(data, rng))
        log = Log(data, net, self.rounds, self.checkpoints, bench)
        log.add(0, weights_of(net))
        device = data.train.images.device
        for done in range(self.rounds):
            net.train()
            here = rng.child("round", done)
            shares, sizes, losses = [], [], []
            for client in self.sampled(done, rng):
                own, own_rng = splits[client], here.child("client", client)
                expected = min(self.batch_size, len(own))
                if drawn:
                    batch = defense.sample(len(own), self.batch_size, own_rng.child("sample")).to(device)
                else:
                    batch = own_rng.permutation(len(own))[:expected].to(device)
                x, y = data.domain.inputs(own.pixels(batch)), own.labels[batch]
                grads, value = gradient(net, loss, x, y, defense, own_rng, expected)
                shares.append(defense.update(grads, own_rng.child("update")))
                sizes.append(expected)
                losses.append(value)
            summed, heard = server_mean(shares, sizes, defense, here)
            mean = defense.aggregate(summed, len(heard), here.child("aggregate"))
            for name, parameter in net.named_parameters():
                parameter.grad = mean[name]
            optimizer.step()
            log.add(done + 1, weights_of(net), torch.stack(losses).mean().item())
        return log.system()
