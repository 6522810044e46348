"""Training as one would write it in PyTorch: a data loader over a ``TensorDataset`` that lies on the device."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng

Batches = DataLoader[tuple[Tensor, ...]]


def loader(data: Data, batch: int, rows: Tensor | None = None) -> Batches:
    """Of the training images at ``rows``, in float32 and normalised; None: of all."""
    kept = data.train if rows is None else data.train.take(rows.to(data.train.labels.device))
    examples = TensorDataset(data.domain.inputs_of(kept), kept.labels)
    return DataLoader(examples, batch, shuffle=True, generator=Rng(0).generator())


def train(net: nn.Module, optimizer: torch.optim.Optimizer, batches: Batches, epochs: int) -> None:
    net.train()
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            cross_entropy(net(x), y).backward()
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
