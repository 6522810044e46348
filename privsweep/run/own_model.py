"""A network of the user's own is tried before anything is trained: can it be built, what does it answer and draw?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._python_dispatch import TorchDispatchMode

from privsweep.interface.data import Architecture, Domain, TextDomain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.checkpoint import FromCheckpoint

_BATCH = 2


def check_own_model(key: str, architecture: Architecture, domain: Domain | TextDomain, rng: Rng) -> None:
    """Raises UserError where ``architecture`` builds no network that tells the classes of a batch of images.

    And where it draws from PyTorch's own stream when it trains, which no run could repeat.

    privsweep's own are left alone, but for networks within them. ``key``: what the line names.
    """
    own = architecture.architecture if isinstance(architecture, FromCheckpoint) else architecture
    if type(own).__module__.partition(".")[0] == "privsweep":
        return check_within(key.partition("=")[0], own, domain, rng)
    try:
        with torch.device("meta"):
            fault = _fault(own, domain, rng)
    except Exception:  # it may need values, which tensors without any lack
        try:
            fault = _fault(own, domain, rng)
        except UserError:
            raise
        except Exception as error:  # the network is the user's own, and so are its faults
            said = (str(error).strip().splitlines() or ["no words"])[0]
            fault = f"fails on a batch of {domain}: {type(error).__name__}: {said}; correct it"
    if fault:
        raise UserError(f"{key}: {fault}")


def check_within(key: str, component: object, domain: Domain | TextDomain, rng: Rng) -> None:
    """Raises UserError as ``check_own_model`` for an architecture in a field of a component, at whatever depth."""
    for field in fields(component) if is_dataclass(component) else ():
        value, name = getattr(component, field.name), f"{key}.{field.name}"
        if hasattr(value, "build"):
            check_own_model(name, value, domain, rng.child(field.name))
        else:
            check_within(name, value, domain, rng.child(field.name))


def _fault(architecture: Architecture, domain: Domain | TextDomain, rng: Rng) -> str | None:
    network = architecture.build(domain, rng)  # type: ignore[arg-type]
    if not isinstance(network, nn.Module):
        return f"builds a {type(network).__name__}; let its build return an nn.Module"
    if tied := _tied(network):
        return f"{tied}; hold it in one layer, and call that layer wherever it is needed"
    with torch.no_grad(), seeded(rng.child("drawn")), _Watching() as watching:
        network.train()(domain.blank(_BATCH))
    if watching.draws:
        return _drawing(network)
    if not isinstance(domain, Domain):
        return None
    with torch.no_grad():
        answer = network.eval()(torch.zeros(_BATCH, *domain.shape))
    if not isinstance(answer, torch.Tensor):
        return f"answers with {type(answer).__name__}; let it return one tensor [examples, classes]"
    if answer.dim() != 2 or len(answer) != _BATCH:
        return f"answers {_BATCH} images with {list(answer.shape)}; let it return [{_BATCH}, {domain.classes}]"
    if answer.dtype != torch.float32:
        return f"answers in {answer.dtype}; build it in torch.float32, as the images are"
    if answer.shape[1] != domain.classes:  # more would be trained as classes, which no attack takes them for
        return f"has {answer.shape[1]} outputs, the data {domain.classes} classes; build it with domain.classes"
    return None


def _tied(network: nn.Module) -> str | None:
    """Names of one parameter, each of which would be sent, averaged and stored as if it were another."""
    names: dict[nn.Parameter, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if (first := names.setdefault(parameter, name)) != name:
            return f"holds one parameter as {first} and as {name}, so that a defence would miss the second"
    return None


class _Watching(TorchDispatchMode):
    """Notes whether an operation inside draws random numbers without a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.draws = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        self.draws |= torch.Tag.nondeterministic_seeded in func.tags and given.get("generator") is None
        return func(*args, **given)


def _drawing(network: nn.Module) -> str:
    """In words, naming a layer of dropout if there is one."""
    dropouts = (name for name, layer in network.named_modules() if isinstance(layer, _DropoutNd) and layer.p)
    what = f"layer {name} draws" if (name := next(dropouts, None)) else "draws"
    return (
        f"{what} random numbers in training from PyTorch's own stream, so that no run could be repeated; for dropout "
        "take privsweep.Dropout(features, p), else a privsweep.model.stochastic.Stochastic layer"
    )
