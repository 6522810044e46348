"""A network of the user's own is tried before anything is trained: whether it can be built, and what it answers."""

from __future__ import annotations

import torch
from torch import nn

from privsweep.interface.data import Architecture, Domain, TextDomain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.checkpoint import FromCheckpoint

_BATCH = 2


def check_own_model(key: str, architecture: Architecture, domain: Domain | TextDomain, rng: Rng) -> None:
    """Raises UserError where ``architecture`` builds no network that tells the classes of a batch of images.

    privsweep's own are left alone. ``key``: what the line names.
    """
    own = architecture.architecture if isinstance(architecture, FromCheckpoint) else architecture
    if type(own).__module__.partition(".")[0] == "privsweep":
        return
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


def _fault(architecture: Architecture, domain: Domain | TextDomain, rng: Rng) -> str | None:
    network = architecture.build(domain, rng)  # type: ignore[arg-type]
    if not isinstance(network, nn.Module):
        return f"builds a {type(network).__name__}; let its build return an nn.Module"
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
    if answer.shape[1] < domain.classes:
        return f"has {answer.shape[1]} outputs, the data {domain.classes} classes; build it with domain.classes"
    return None
