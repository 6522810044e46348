"""Cutting a network in two, for split learning and collaborative inference."""

from __future__ import annotations

from torch import nn

from privsweep.interface.errors import UserError
from privsweep.model.sequence import is_sequence


def cut(model: nn.Module, layer: str) -> tuple[nn.Sequential, nn.Sequential]:
    """The layers up to and including ``layer``, and those after it.

    Both parts keep the layers' names and share their parameters with ``model``; ``tail(head(x))`` is
    ``model(x)``. After the last layer the tail is empty and hands its input on.

    Raises UserError where ``model`` is no sequence of layers, or has none of that name.
    """
    if not is_sequence(model):
        raise UserError(
            f"fl_setting.cut={layer}: the model is no sequence of layers, each in one place, so that it cannot be cut; "
            "take another, such as model=lenet or model=resnet18"
        )
    names = [name for name, _ in model.named_children()]
    if layer not in names:
        raise UserError(
            f"fl_setting.cut={layer}: the model has no layer of that name; choose one of {', '.join(names)}"
        )
    end = names.index(layer) + 1
    return model[:end], model[end:]
