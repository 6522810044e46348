"""Federated SGD: every client shares the gradient of one batch a round; the server takes the step."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from privsweep.component import component
from privsweep.errors import UserError
from privsweep.federation import Federated, Log, weighted_mean
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
        loss = defense.loss(cross_entropy)
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
                batch = own_rng.permutation(len(own))[: self.batch_size].to(device)
                x, y = data.domain.inputs(own.pixels(batch)), own.labels[batch]
                grads, value = gradient(net, loss, x, y, defense, own_rng)
                shares.append(defense.update(grads, own_rng.child("update")))
                sizes.append(len(batch))
                losses.append(value)
            mean = defense.aggregate(weighted_mean(shares, sizes), len(shares), here.child("aggregate"))
            for name, parameter in net.named_parameters():
                parameter.grad = mean[name]
            optimizer.step()
            log.add(done + 1, weights_of(net), torch.stack(losses).mean().item())
        return log.system()
