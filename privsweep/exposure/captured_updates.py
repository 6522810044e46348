"""Reads updates captured elsewhere, and says in one line what is wrong with a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from privsweep.exposure.update_file import KINDS, REMEDY, Notes, UpdateFile, What, named
from privsweep.interface.data import Domain, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable

Shape = tuple[int, ...]
_MODEL = "choose the model that it is of"


@dataclass(frozen=True)
class CapturedUpdates:
    """What is in the files, on the CPU."""

    what: What
    notes: Notes
    weights: Tensors  # parameters, and those buffers that are there
    delta: Tensors  # [V, ...] for every parameter that was sent
    statistics: Tensors  # [V, ...] for every buffer that was sent along
    labels: Tensor | None  # int64 [V, N]
    originals: Tensor | None  # [V, N, C, H, W] in [0, 1]


@dataclass(frozen=True)
class Expected:
    """The network that updates are of: its state by name, and which of it are parameters."""

    state: Tensors
    parameters: tuple[str, ...]

    @classmethod
    def of(cls, net: nn.Module) -> Expected:
        """On the device of the network, the meta device as a rule."""
        return cls(net.state_dict(), tuple(name for name, _ in net.named_parameters()))

    @classmethod
    def told_by(cls, file: UpdateFile) -> Expected:
        """The network as the file itself has it: what has an update is a parameter."""
        sent, shapes = named(file.shapes(), file.kind()), named(file.shapes(), "weights")
        return cls({name: file.tensor(f"weights.{name}") for name in shapes}, tuple(sent))


def read_updates(files: Sequence[UpdateFile], net: Expected, domain: Domain | None) -> CapturedUpdates:
    """The victims of all files, in their order; without a ``domain`` shapes and classes of images go unchecked.

    Raises UserError where a file does not fit the network or the domain, holds what is no number, or does not fit the
    first file: all updates start from the same weights.
    """
    first, *others = (_read(file, net, domain) for file in files)
    for file, other in zip(files[1:], others, strict=True):
        if difference := _difference(first, other):
            raise UserError(
                f"{file.what}: {difference} than {printable(files[0].path.name)}; attack them one by one, with -m and "
                "a list of files"
            )
    every = [first, *others]
    return CapturedUpdates(
        first.what,
        first.notes,
        first.weights,
        {name: torch.cat([one.delta[name] for one in every]) for name in first.delta},
        {name: torch.cat([one.statistics[name] for one in every]) for name in first.statistics},
        None if first.labels is None else torch.cat([one.labels for one in every if one.labels is not None]),
        None if first.originals is None else torch.cat([one.originals for one in every if one.originals is not None]),
    )


def _difference(first: CapturedUpdates, other: CapturedUpdates) -> str | None:
    """How the second disagrees with the first, to be followed by "than"."""
    if first.delta.keys() != other.delta.keys():
        return "holds an update of other parameters"
    if first.statistics.keys() != other.statistics.keys():
        return "holds statistics of other buffers"
    if (first.what, first.notes) != (other.what, other.notes):
        return "tells of another kind of update, batch size or training"
    same = first.weights.keys() == other.weights.keys()
    if not same or not all(torch.equal(w, other.weights[name]) for name, w in first.weights.items()):
        return "starts from other weights"
    for name in ("labels", "originals"):
        if (getattr(first, name) is None) != (getattr(other, name) is None):
            return f"tells {'more' if getattr(first, name) is None else 'less'} of {name}"
    return None


def _read(file: UpdateFile, net: Expected, domain: Domain | None) -> CapturedUpdates:
    what, shapes, notes = file.kind(), file.shapes(), file.notes()
    state = {name: tuple(t.shape) for name, t in net.state.items()}
    parameters = {name: state.get(name, ()) for name in net.parameters}
    buffers = {name: shape for name, shape in state.items() if name not in parameters}
    parts = tuple(f"{part}." for part in (*KINDS, "weights", "statistics"))
    for name in shapes:
        if name not in ("labels", "originals") and not name.startswith(parts):
            raise UserError(f"{file.what}: has {_shown(name)}, which belongs to no part of an update; {REMEDY}")
    _compare(file, "weights", named(shapes, "weights"), state, parameters)
    sent = named(shapes, what)
    leading = _leading(sent, parameters)
    _compare(file, what, {n: s[len(leading) :] if s[: len(leading)] == leading else s for n, s in sent.items()},
             parameters, {})  # fmt: skip
    weights = {name: _numbers(file, f"weights.{name}", net.state[name]) for name in named(shapes, "weights")}
    delta = {name: _numbers(file, f"{what}.{name}", net.state[name]) for name in parameters if name in sent}
    if not leading:
        delta = {name: d[None] for name, d in delta.items()}
    victims = len(next(iter(delta.values())))
    if not victims:
        raise UserError(f"{file.what}: {what}.* are of no victim; {REMEDY}")
    statistics = _statistics(file, named(shapes, "statistics"), victims, net, buffers)
    batch = (victims, notes["batch_size"])
    labels = _labels(file, shapes["labels"], batch, domain) if "labels" in shapes else None
    originals = _originals(file, shapes["originals"], batch, domain) if "originals" in shapes else None
    return CapturedUpdates(what, notes, weights, delta, statistics, labels, originals)


def _statistics(
    file: UpdateFile, found: Mapping[str, Shape], victims: int, net: Expected, buffers: Mapping[str, Shape]
) -> dict[str, Tensor]:
    """``[V, ...]``; those of one victim may lack the axis."""
    given = {name: (victims, *s) if victims == 1 and s == buffers.get(name) else s for name, s in found.items()}
    _compare(file, "statistics", given, {name: (victims, *s) for name, s in buffers.items()}, {})
    return {name: _numbers(file, f"statistics.{name}", net.state[name]).view(given[name]) for name in found}


def _leading(sent: Mapping[str, Shape], parameters: Mapping[str, Shape]) -> Shape:
    """The victims' axis, ``(V,)``, or none."""
    for name, shape in parameters.items():
        if name in sent and sent[name][1:] == shape != sent[name]:
            return sent[name][:1]
    return ()


def _compare(
    file: UpdateFile, part: str, found: Mapping[str, Shape], wanted: Mapping[str, Shape], needed: Mapping[str, Shape]
) -> None:
    """Raises UserError unless ``found`` has all that is needed, and nothing else than is wanted."""
    for name in needed:
        if name not in found:
            longer = next((other for other in found if other.endswith(f".{name}")), None)
            hint = f" but {part}.{_shown(longer)}, as wrappers such as DataParallel name it" if longer else ""
            raise UserError(f"{file.what}: has no {part}.{name} ({_size(needed[name])}){hint}; {_MODEL}")
    for name, shape in found.items():
        if name not in wanted:
            raise UserError(f"{file.what}: has {part}.{_shown(name)}, which the network has not; {_MODEL}")
        if shape != wanted[name]:
            raise UserError(
                f"{file.what}: {part}.{name} is {_size(shape)} there and {_size(wanted[name])} in the network; "
                f"{_MODEL}, and the dataset's shape and classes"
            )


def _numbers(file: UpdateFile, name: str, like: Tensor) -> Tensor:
    """A tensor as the network has it, or with victims; raises UserError for another kind of numbers, or none."""
    tensor = file.tensor(name)
    if tensor.is_floating_point() != like.is_floating_point():
        raise UserError(f"{file.what}: {name} is {_dtype(tensor)}, in the network {_dtype(like)}; {REMEDY}")
    tensor = tensor.to(like.dtype)
    if not tensor.isfinite().all():
        whose = ""
        if tensor.ndim > like.ndim:
            whose = f" of victim {int((~tensor.isfinite())[:, None].flatten(1).any(1).nonzero()[0])}"
        raise UserError(f"{file.what}: {name}{whose} has values that are no finite float32; leave that update out")
    return tensor


def _labels(file: UpdateFile, found: Shape, batch: Shape, domain: Domain | None) -> Tensor:
    _batched(file, "labels", found, batch)
    labels = file.tensor("labels")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise UserError(f"{file.what}: labels are {_dtype(labels)}; store class numbers as integers")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or (domain is not None and high >= domain.classes):
        classes = "classes count from 0" if domain is None else f"there are {domain.classes} classes, from 0"
        raise UserError(f"{file.what}: labels have {low if low < 0 else high}, and {classes}; number them anew")
    return labels.long().view(batch)


def _originals(file: UpdateFile, found: Shape, batch: Shape, domain: Domain | None) -> Tensor:
    wanted = (*batch, *(found[-3:] if domain is None else domain.shape))
    _batched(file, "originals", found, wanted)
    originals = file.tensor("originals")
    if not originals.is_floating_point():
        raise UserError(f"{file.what}: originals are {_dtype(originals)}; store pixels as floats from 0 to 1")
    if not (originals.isfinite() & (originals >= 0) & (originals <= 1)).all():
        raise UserError(f"{file.what}: originals leave the range from 0 to 1; store pixels before they are normalised")
    return originals.float().view(wanted)


def _batched(file: UpdateFile, name: str, found: Shape, wanted: Shape) -> None:
    if found != wanted and not (wanted[0] == 1 and found == wanted[1:]):
        raise UserError(
            f"{file.what}: {name} are {_size(found)}, and {wanted[0]} victims with batch_size={wanted[1]} make them "
            f"{_size(wanted)}; correct them, the metadata's batch_size, or the dataset's shape"
        )


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _size(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "a number"


def _shown(name: str) -> str:
    return printable(name[:200])
