"""Training as one would write it in PyTorch, without loading anything slowly: whole batches of a ``TensorDataset`` that
lies on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng

Batches = DataLoader[tuple[Tensor, ...]]


def loader(data: Data, batch: int, rows: Tensor | None = None) -> Batches:
    """Of the training images at ``rows``, in float32 and normalised; None: of all."""
    kept = data.train if rows is None else data.train.take(rows.to(data.train.labels.device))
    examples = TensorDataset(data.domain.inputs_of(kept), kept.labels)
    order = RandomSampler(examples, generator=Rng(0).generator())
    return DataLoader(examples, sampler=BatchSampler(order, batch, drop_last=False), batch_size=None)


def singles(data: Data, batch: int) -> Batches:
    """Of all training images, which lie on the CPU and are picked one by one, as Opacus' Poisson batches are."""
    examples = TensorDataset(data.domain.inputs_of(data.train).cpu(), data.train.labels.cpu())
    return DataLoader(examples, batch, shuffle=True, generator=Rng(0).generator())


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, epochs: int) -> None:
    net.train()
    device = next(net.parameters()).device
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(net(x.to(device)), y.to(device)).backward()
            optimizer.step()


@torch.no_grad()
def accuracy(net: nn.Module, data: Data) -> float:
    """On the test images."""
    net.eval()
    hits = net(data.domain.inputs_of(data.test)).argmax(1) == data.test.labels
    return hits.float().mean().item()


def averaged(nets: list[nn.Module]) -> dict[str, Tensor]:
    """The mean of the clients' weights."""
    states = [net.state_dict() for net in nets]
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}
