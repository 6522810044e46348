"""Networks cut twice, for collaborative inference: head and tail are a client's, the body between them a server's."""

from __future__ import annotations

from collections import OrderedDict
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from privsweep.interface.data import Architecture, Domain, TextDomain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.sequence import is_sequence

Point = int | str


class SplitNetwork(nn.Sequential):
    """``tail(body(head(x)))``; the three parts keep the layers' names.

    ``sent`` and ``returned`` are the shapes, without the batch, of what leaves the client and what comes back to it.
    """

    head: nn.Sequential
    body: nn.Sequential
    tail: nn.Sequential

    def __init__(
        self, head: nn.Module, body: nn.Module, tail: nn.Module, sent: tuple[int, ...], returned: tuple[int, ...]
    ):
        super().__init__(OrderedDict(head=head, body=body, tail=tail))
        self.sent, self.returned = sent, returned

    def with_parts(
        self, *, head: nn.Module | None = None, body: nn.Module | None = None, tail: nn.Module | None = None
    ) -> SplitNetwork:
        """This network with other parts; those that stay are shared."""
        return SplitNetwork(head or self.head, body or self.body, tail or self.tail, self.sent, self.returned)


def split_by_setting(model: nn.Module, defense: str) -> SplitNetwork:
    """``model`` as the setting has cut it; raises UserError where it has not."""
    if isinstance(model, SplitNetwork):
        return model
    raise UserError(
        f"defense={defense}: acts on the features that a client sends; take fl_setting=collaborative_inference, or "
        "leave it out"
    )


def appended(part: nn.Sequential, name: str, layer: nn.Module) -> nn.Sequential:
    """The layers of ``part``, which are shared, and ``layer`` behind them."""
    return nn.Sequential(OrderedDict([*part.named_children(), (name, layer)]))


def units(model: nn.Sequential) -> list[list[str]]:
    """What counts as one layer when a network is cut: a layer with weights, and those without that follow it.

    Those without weights that a network begins with belong to the first: alone they would send the input itself.

    The blocks of one stage, ``block1_1, block1_2``, are one, so that a ResNet18 has its first convolution, four
    stages and the output (Ensembler, section 3).
    """
    found: list[list[str]] = [[]]
    counts = False  # the last of them
    for name, layer in model.named_children():
        weighs = any(parameter.dim() > 1 for parameter in layer.parameters())
        stage = name.rpartition("_")[0]
        same = counts and stage.startswith("block") and found[-1][0].startswith(f"{stage}_")
        if weighs and counts and not same:
            found.append([])
        found[-1].append(name)
        counts = counts or weighs
    return found


def split(model: nn.Module, first: Point, second: Point, domain: Domain | TextDomain) -> SplitNetwork:
    """``model`` cut twice; it shares its layers.

    first: the last layer of the head, by name, or how many units from the start are the head's (Ensembler's h).
    second: the first layer of the tail, by name, or how many units at the end are the tail's (Ensembler's t).

    Raises UserError where there is no such point, or nothing would be left between the two.
    """
    if not is_sequence(model):
        raise UserError(
            f"fl_setting.first_split={first}: the model is no sequence of layers, each in one place, so that it cannot "
            "be cut; take another, such as model=resnet18 or model=lenet"
        )
    names = [name for name, _ in model.named_children()]
    counted = units(model)
    start = _place("first_split", first, names, [unit[-1] for unit in counted]) + 1
    end = _place("second_split", second, names, [unit[0] for unit in reversed(counted)])
    if not any(True for _ in model[start:end].parameters()):
        raise UserError(
            f"fl_setting.second_split={second}: the tail would begin with {names[end]}, the head ends with "
            f"{names[start - 1]}, and the server between them would have nothing to learn; move one of them"
        )
    head, body, tail = model[:start], model[start:end], model[end:]
    with torch.no_grad(), torch.device("meta"):
        sent = deepcopy(head).to("meta").eval()(domain.blank(1))
        returned = deepcopy(body).to("meta").eval()(sent)
    return SplitNetwork(head, body, tail, tuple(sent.shape[1:]), tuple(returned.shape[1:]))


@dataclass(frozen=True)
class SplitArchitecture:
    """An architecture whose networks are cut twice, at the points of ``split``."""

    architecture: Architecture
    first: Point
    second: Point

    def build(self, domain: Domain, rng: Rng) -> SplitNetwork:
        """Raises UserError where it cannot be cut there."""
        return split(self.architecture.build(domain, rng), self.first, self.second, domain)


def _place(key: str, point: Point, names: list[str], counted: list[str]) -> int:
    """The position of the layer that a split point is."""
    if isinstance(point, str):
        if point in names:
            return names.index(point)
        raise UserError(
            f"fl_setting.{key}={point}: the model has no layer of that name; choose one of {', '.join(names)}, or a "
            f"number from 1 to {len(counted) - 1}"
        )
    if not 1 <= point < len(counted):
        raise UserError(
            f"fl_setting.{key}={point}: the model has {len(counted)} layers that count ({', '.join(counted)}); take 1 "
            f"to {len(counted) - 1}, or a layer's name"
        )
    return names.index(counted[point - 1])
