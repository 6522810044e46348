"""Writes an update out of a training loop of the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from numpy.typing import ArrayLike
from safetensors.torch import save_file
from torch import Tensor, nn

from privsweep.exposure.captured_updates import Expected, read_updates
from privsweep.exposure.update_file import SUFFIX, UpdateFile, What
from privsweep.interface.errors import UserError
from privsweep.store.atomic import whole_file


def save_update(
    path: str | Path,
    model: nn.Module,
    update: Mapping[str, Tensor] | Iterable[Tensor] | None = None,
    *,
    batch_size: int,
    what: What = "gradient",
    lr: float | None = None,
    local_steps: int = 1,
    local_batch_size: int | None = None,
    optimizer: Literal["sgd", "adam"] = "sgd",
    momentum: float = 0.0,
    statistics: Mapping[str, Tensor] | None = None,
    labels: ArrayLike | None = None,
    originals: ArrayLike | None = None,
) -> Path:
    """Files an update for ``fl_setting=captured``; returns the path.

    model: with the weights that the update starts from: call it before ``optimizer.step()``. Wrapped in
    ``DataParallel`` or ``DistributedDataParallel``, the network inside counts.
    update: gradients (the mean over the batch) or differences (weights after less weights before) for every parameter
    that is not frozen (``requires_grad=False``), by name or in the order of ``model.parameters()``, as
    ``torch.autograd.grad`` returns them; for several victims, all with a leading axis ``[V, ...]``. None: the
    parameters' ``.grad``.
    batch_size: images behind the update (of one victim), N.
    lr, local_steps, local_batch_size (images a step; None: all), optimizer, momentum: how the client got from the
    weights before to those after; of a difference, ``lr`` must be given.
    statistics: buffers by name, such as running means, as the client left them and sent them along; for several
    victims ``[V, ...]``. Then ``model`` must have them as they were before, in a copy made before the forward pass.
    labels: class numbers ``[N]`` or ``[V, N]``, where the attack may know them or they are to be scored.
    originals: pixels in [0, 1], ``[N, C, H, W]`` or ``[V, N, C, H, W]``, before they are normalised, if reconstructions
    are to be scored. No attack ever sees them.

    Arrays of NumPy and lists are taken for tensors. Raises UserError, and writes nothing, where shapes, numbers or
    notes are not as said.
    """
    net = model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model
    parameters = dict(net.named_parameters())
    sent = _by_name(update, parameters)
    if missing := [name for name, p in parameters.items() if p.requires_grad and name not in sent]:
        raise UserError(
            f"save_update: {', '.join(missing)}: no {what} is given; give one for each, or freeze what the client does "
            "not send: requires_grad_(False)"
        )
    tensors = {f"weights.{name}": t for name, t in net.state_dict().items()}
    tensors |= {f"{what}.{name}": t for name, t in sent.items()}
    tensors |= {f"statistics.{name}": t for name, t in (statistics or {}).items()}
    tensors |= {n: t for n, t in (("labels", labels), ("originals", originals)) if t is not None}
    trained = {"lr": lr, "local_steps": local_steps, "optimizer": optimizer, "momentum": momentum}
    trained["local_batch_size"] = local_batch_size
    notes = {"batch_size": batch_size, **trained}
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UserError(f"save_update: {path}: the file of an update ends with {SUFFIX}; choose such a name")
    tensors = {name: _tensor(name, t) for name, t in tensors.items()}
    with whole_file(path) as draft:
        apart = {n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()}
        save_file(apart, draft, {name: str(value) for name, value in notes.items() if value is not None})
        read_updates([UpdateFile(draft, "save_update")], Expected.of(net), None)
    return path


def _tensor(name: str, given: Any) -> Tensor:
    try:
        return torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"save_update: {name}={given!r:.60}: is no tensor; give one, an array or numbers") from error


def _by_name(
    update: Mapping[str, Tensor] | Iterable[Tensor] | None, parameters: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    if update is None:
        return {name: p.grad for name, p in parameters.items() if p.grad is not None}
    if isinstance(update, Mapping):
        return dict(update)
    given, names = list(update), [name for name, p in parameters.items() if p.requires_grad] or list(parameters)
    if len(given) != len(names):
        raise UserError(
            f"save_update: {len(given)} tensors for {len(names)} parameters; give one for each, in their order"
        )
    return dict(zip(names, given, strict=True))
