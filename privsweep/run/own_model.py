"""A network of the user's own is tried before anything is trained: can it be built, what does it answer and draw?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from privsweep.interface.data import Architecture, Domain, TextDomain
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.model.checkpoint import FromCheckpoint

_BATCH = 2


def check_own_model(key: str, architecture: Architecture, domain: Domain | TextDomain, rng: Rng) -> None:
    """Raises UserError where ``architecture`` builds no network that tells the classes of a batch of images.

    And where it draws from PyTorch's own stream, which no run could repeat, or no gradient comes through it.

    privsweep's own are left alone, but for networks within them. ``key``: what the line names.
    """
    own = _without_checkpoint(architecture)
    if _is_ours(own):
        return check_within(key.partition("=")[0], own, domain, rng)
    _try(key, "build", lambda: own.build(domain, rng), domain, rng)  # type: ignore[arg-type]


def check_own_defenses(
    defenses: Mapping[str, Defense], architecture: Architecture, domain: Domain | TextDomain, rng: Rng
) -> None:
    """Raises UserError as ``check_own_model`` for a defence of the user's own that changes the network."""
    network = _without_checkpoint(architecture)
    for name, defense in defenses.items():
        if "model" in defense.acts_at() and not _is_ours(defense):

            def change(defense: Defense = defense) -> nn.Module:
                return defense.model(network.build(domain, rng), rng.child("defense"))  # type: ignore[arg-type]

            _try(f"defense={name}", "model", change, domain, rng)


def _without_checkpoint(architecture: Architecture) -> Architecture:
    return architecture.architecture if isinstance(architecture, FromCheckpoint) else architecture


def _is_ours(component: object) -> bool:
    return type(component).__module__.partition(".")[0] == "privsweep"


def _try(key: str, method: str, build: Callable[[], nn.Module], domain: Domain | TextDomain, rng: Rng) -> None:
    try:
        with torch.device("meta"):
            fault = _fault(method, build, domain, rng)
    except Exception:  # it may need values, which tensors without any lack
        try:
            fault = _fault(method, build, domain, rng)
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


def _fault(method: str, build: Callable[[], nn.Module], domain: Domain | TextDomain, rng: Rng) -> str | None:
    network = build()
    if not isinstance(network, nn.Module):
        return f"builds a {type(network).__name__}; let its {method} return an nn.Module"
    if any(hasattr(layer, "_orig_mod") for layer in network.modules()):
        return (
            f"is compiled by torch.compile, which gradients of gradients do not pass; let its {method} leave that out"
        )
    if lazy := next((name for name, p in network.named_parameters() if is_lazy(p)), None):
        return f"{lazy} gets its shape from the first batch, which comes too late; give the layer its sizes in {method}"
    if tied := _tied(network):
        return f"{tied}; hold it in one layer, and call that layer wherever it is needed"
    images = isinstance(domain, Domain)
    with seeded(rng.child("drawn")), _Watching() as watching:
        modes = (True, False) if images else (True,)
        answers = [network.train(mode)(domain.blank(_BATCH).requires_grad_(images)) for mode in modes]
    if watching.draws:
        return _drawing(network)
    if not isinstance(domain, Domain):
        return None
    wrong = (_misanswered(answer, domain, method == "build") for answer in answers)
    return next((fault for fault in wrong if fault), None) or _unused(network, answers[0])


def _misanswered(answer: Any, domain: Domain, exact: bool) -> str | None:
    """What is wrong with an answer to a batch; unless ``exact`` there may be more outputs than classes."""
    if not isinstance(answer, torch.Tensor):
        return f"answers with {type(answer).__name__}; let it return one tensor [examples, classes]"
    if answer.dim() != 2 or len(answer) != _BATCH:
        return f"answers {_BATCH} images with {list(answer.shape)}; let it return [{_BATCH}, {domain.classes}]"
    if answer.dtype != torch.float32:
        return f"answers in {answer.dtype}; build it in torch.float32, as the images are"
    if not answer.requires_grad:
        return "answers with what no gradient comes through; leave no_grad, detach and NumPy out of its forward"
    outputs, classes = answer.shape[1], domain.classes
    if outputs < classes or (exact and outputs > classes):  # more would be trained as classes, which no attack knows of
        return f"has {outputs} outputs, the data {classes} classes; build it with domain.classes"
    return None


def _unused(network: nn.Module, answer: torch.Tensor) -> str | None:
    """A parameter that is to be trained and has no gradient, neither to train it by nor to be sent."""
    learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(answer.sum(), list(learning.values()), allow_unused=True) if learning else ()
    if idle := next((name for name, grad in zip(learning, grads, strict=True) if grad is None), None):
        return f"{idle} takes no part in the answer; leave it out, or freeze it by requires_grad_(False)"
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
        f"{what} random numbers from PyTorch's own stream, so that no run could be repeated; for dropout "
        "take privsweep.Dropout(features, p), else a privsweep.model.stochastic.Stochastic layer"
    )
