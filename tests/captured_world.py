"""An update out of plain PyTorch, as a user's own training loop has it."""

from __future__ import annotations

import tempfile
from collections import OrderedDict
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.exposure.save_update import save_update
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

# What the network below is in the words of the command line; the data are nobody's here.
GIVEN = [
    "fl_setting=captured", "dataset=unseen", "dataset.shape=[1,8,8]", "dataset.classes=10",
    "model=smlp", "model.depth=1", "model.width=64", "model.activation=sigmoid",
]  # fmt: skip


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = {"flatten": nn.Flatten(), "fc1": nn.Linear(64, 64), "act1": nn.Sigmoid(), "output": nn.Linear(64, 10)}
    return nn.Sequential(OrderedDict(layers))


def images(victims: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    """Pixels ``[V, N, 1, 8, 8]`` and labels ``[V, N]``."""
    draw = torch.Generator().manual_seed(1)
    pixels = torch.rand(victims, batch, 1, 8, 8, generator=draw)
    return pixels, torch.randint(10, (victims, batch), generator=draw)


def gradients(net: nn.Module, pixels: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """``[V, ...]`` by name."""
    each = [
        torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters()))
        for x, y in zip(pixels, labels, strict=True)
    ]
    return {name: torch.stack(g) for (name, _), g in zip(net.named_parameters(), zip(*each, strict=True), strict=True)}


@cache
def of_a_tiny_lenet() -> Path:
    """Two victims' gradients of the tests' LeNet on digits, with labels and originals."""
    with searching(None):
        spec = build(compose(["model=lenet_dlg", "model.width=3"]))
    net = spec.model.build(Domain((1, 8, 8), 10, (0.0,), (1.0,)), Rng(0))
    pixels, labels = images(2)
    path = Path(tempfile.mkdtemp()) / "lenet.safetensors"
    return save_update(path, net, gradients(net, pixels, labels), batch_size=1, labels=labels, originals=pixels)
