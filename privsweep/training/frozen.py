"""Which parameters of a network move in a training, and what stays as it is."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import Literal

from torch import nn

from privsweep.interface.training import Trainable
from privsweep.model.stochastic import Stochastic


def unfrozen(net: nn.Module) -> list[str]:
    """The names of the parameters that require a gradient, in the network's order: its builder may freeze others."""
    return [name for name, p in net.named_parameters() if p.requires_grad]


def moving(net: nn.Module, trainable: Trainable) -> list[str]:
    """The names of the parameters that move, in the network's order: of the ``trainable`` ones those not frozen.

    Raises ValueError where there are none, or a name is that of no parameter and of no layer that has any.
    """
    names = [name for name, _ in net.named_parameters()]
    if trainable is None:
        chosen = set(names)
    elif callable(trainable):
        chosen = {name for name in names if trainable(name)}
    else:
        found = {given: {n for n in names if n == given or n.startswith(f"{given}.")} for given in trainable}
        strange = [given for given, own in found.items() if not own]
        if strange:
            raise ValueError(f"trainable: the network has no parameters {', '.join(strange)}, but {', '.join(names)}")
        chosen = set().union(*found.values())
    left = [name for name in unfrozen(net) if name in chosen]
    if not left:
        raise ValueError("trainable: no parameter is left to train")
    return left


@contextmanager
def only_moving(net: nn.Module, names: Set[str]) -> Iterator[None]:
    """Inside, parameters outside ``names`` require no gradient."""
    before = {p: p.requires_grad for p in net.parameters()}
    for name, p in net.named_parameters():
        p.requires_grad_(name in names)
    try:
        yield
    finally:
        for p, required in before.items():
            p.requires_grad_(required)


def client_mode(net: nn.Module, mode: Literal["train", "eval"]) -> nn.Module:
    """``net`` in eval mode, or in the mode in which a client trains it, where frozen layers keep their statistics."""
    net.eval()
    if mode == "train":
        train_mode(net, set(unfrozen(net)))
    return net


def train_mode(net: nn.Module, names: Set[str]) -> None:
    """Train mode, but for layers with running statistics none of whose own parameters is in ``names``."""
    net.train()
    if names == {name for name, _ in net.named_parameters()}:
        return
    for prefix, layer in net.named_modules():
        own = {f"{prefix}.{name}".lstrip(".") for name, _ in layer.named_parameters(recurse=False)}
        statistics = any(True for _ in layer.buffers(recurse=False)) and not isinstance(layer, Stochastic)
        if statistics and not own & names:
            layer.eval()
