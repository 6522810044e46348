"""Several server networks beside each other, and what a client makes of their answers (Ensembler, section 4.1)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.split_network import SplitNetwork


class Bodies(nn.Module):
    """N networks on the same input; their outputs ``[B, F, ...]`` side by side, ``[B, N F, ...]``."""

    def __init__(self, nets: Sequence[nn.Module]):
        super().__init__()
        self.nets = nn.ModuleList(nets)

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([net(z) for net in self.nets], 1)


class Selector(nn.Module):
    """Weighs the outputs of N networks, which stand side by side ``[B, N F, ...]`` (Ensembler, equation 1).

    Those that are ``chosen`` count alike, the others nothing. ``activation`` ``[N]`` is stored with the weights, and no
    training moves it.
    """

    activation: Tensor

    def __init__(self, networks: int, chosen: Sequence[int]):
        super().__init__()
        self.used = len(chosen)
        activation = torch.zeros(networks)
        activation[list(chosen)] = 1 / self.used
        self.register_buffer("activation", activation)

    def forward(self, x: Tensor) -> Tensor:
        return weighted(x, self.activation)


class LearntSelector(nn.Module):
    """The same with weights that are trained: the softmax of ``scores`` ``[N]``, alike at first."""

    def __init__(self, networks: int):
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(networks))

    def forward(self, x: Tensor) -> Tensor:
        return weighted(x, self.scores.softmax(0))


def weighted(x: Tensor, activation: Tensor) -> Tensor:
    """``[B, N F, ...]`` with every network's share multiplied by its activation, of ``[N]``."""
    apart = x.unflatten(1, (len(activation), -1))
    return (apart * activation.view(-1, *[1] * (apart.dim() - 2))).flatten(1, 2)


def widened(tail: nn.Sequential, networks: int) -> nn.Sequential:
    """A tail for the outputs of several networks: its first layer, which must be linear, reads as many times more.

    That layer is new, with PyTorch's initial values; the others are shared. Raises ValueError for another first layer.
    """
    layers = list(tail.named_children())
    name, first = layers[0]
    if type(first) is not nn.Linear:
        raise ValueError(f"{name} is {type(first).__name__}, not linear")
    wide = nn.Linear(networks * first.in_features, first.out_features, bias=first.bias is not None)
    return nn.Sequential(OrderedDict([(name, wide), *layers[1:]]))


def ensembled(net: SplitNetwork, networks: int, weigh: tuple[str, nn.Module], defense: str, rng: Rng) -> SplitNetwork:
    """``net`` with so many bodies, all like its own, and ``weigh``, by name, before a tail that reads them all.

    Raises UserError, for ``defense``, where the tail does not begin with a linear layer.
    """
    try:
        with seeded(rng):
            tail = widened(net.tail, networks)
    except ValueError as error:
        raise UserError(
            f"defense={defense}: the client's tail must begin with a linear layer ({error}); take "
            "fl_setting.second_split=1"
        ) from error
    return net.with_parts(
        body=Bodies([net.body, *(deepcopy(net.body) for _ in range(networks - 1))]),
        tail=nn.Sequential(OrderedDict([weigh, *tail.named_children()])),
    )


class PerNetwork(nn.Module):
    """Applies ``layer`` to the outputs of N networks apart, ``[B, N, F]``, which stand side by side, ``[B, N F]``."""

    def __init__(self, layer: nn.Module, networks: int):
        super().__init__()
        self.layer, self.networks = layer, networks

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.unflatten(1, (self.networks, -1))).flatten(1)
