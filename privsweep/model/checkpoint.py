"""Initial weights out of a file of the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Architecture, Domain, Tensors
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.randomness import Rng

_SHOWN = 3  # names of a file whose names are not the network's


@dataclass(frozen=True)
class Checkpoint:
    """Parameters and buffers by name in a `.safetensors` file; nothing is ever unpickled.

    All names may stand behind one prefix: ``module.`` of DistributedDataParallel, ``_orig_mod.`` of torch.compile.
    """

    path: Path

    def files(self) -> DataFiles:
        """The one file, there or not."""
        what, place = f"model.weights={self.path}", str(self.path.absolute())
        if not self.path.is_file():
            return DataFiles(what, place, None, 0, self._absent())
        about = self.path.stat()
        return DataFiles(what, place, f"{about.st_size}-{about.st_mtime_ns}", about.st_mtime_ns, self._absent())

    def fingerprint(self) -> str:
        """16 hex digits of the file's contents, wherever it lies. Raises AbsentError where it is not there."""
        if not self.path.is_file():
            raise AbsentError(self._absent())
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()[:16]
        except OSError as error:
            raise AbsentError(self._absent()) from error

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, out of the file's header. Raises UserError for another kind of file."""
        with self._opened() as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def tensors(self) -> Tensors:
        """All of them, on the CPU."""
        with self._opened() as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def _opened(self) -> Any:
        try:
            return safe_open(self.path, "pt")
        except FileNotFoundError as error:
            raise AbsentError(self._absent()) from error
        except (SafetensorError, OSError) as error:
            fault = "was pickled, which may run code" if self._pickled() else f"cannot be read as safetensors ({error})"
            raise UserError(
                f"model.weights={self.path}: {fault}; write the state with "
                f'safetensors.torch.save_file(model.state_dict(), "{self.path.stem}.safetensors")'
            ) from error

    def _pickled(self) -> bool:
        """Whether it begins as what torch.save writes: a zip archive, or a pickle."""
        with suppress(OSError), self.path.open("rb") as file:
            return file.read(4).startswith((b"PK\x03\x04", *(bytes([0x80, version]) for version in range(2, 6))))
        return False

    def _absent(self) -> str:
        return f"model.weights={self.path}: no such file; give a .safetensors file with initial weights, or null"


@dataclass(frozen=True)
class FromCheckpoint:
    """An architecture whose networks begin with the weights of a checkpoint, whatever the seed."""

    architecture: Architecture
    checkpoint: Checkpoint

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        """As the architecture's. Raises UserError unless names and shapes are those of the network, all of them."""
        model = self.architecture.build(domain, rng)
        state = model.state_dict()
        prefix = self._compare({name: tuple(t.shape) for name, t in state.items()})
        if not any(t.is_meta for t in state.values()):
            with torch.device("cpu"):
                model.load_state_dict({name.removeprefix(prefix): t for name, t in self.checkpoint.tensors().items()})
        return model

    def _compare(self, wanted: Mapping[str, tuple[int, ...]]) -> str:
        """What stands before all names in the file."""
        found, what = self.checkpoint.shapes(), f"model.weights={self.checkpoint.path}"
        prefix = _prefix(found, wanted)
        for name, shape in wanted.items():
            if (there := found.get(prefix + name)) is None:
                raise UserError(
                    f"{what}: has no {name}, {_size(shape)} in the network; choose the model that it is of (in the "
                    f"file: {_listed(found)})"
                )
            if there != shape:
                raise UserError(
                    f"{what}: {prefix}{name} is {_size(there)} there and {_size(shape)} in the network; choose the "
                    "model and the dataset that it is of"
                )
        for name in sorted(found.keys() - {prefix + name for name in wanted}):
            raise UserError(
                f"{what}: has {name}, which the network has not; choose the model that it is of, or leave it out of "
                "the file"
            )
        return prefix


def without_weights(architecture: Architecture) -> Architecture:
    """What one knows who is told the architecture and not the weights that it begins with."""
    return architecture.architecture if isinstance(architecture, FromCheckpoint) else architecture


def _prefix(found: Collection[str], wanted: Collection[str]) -> str:
    """Behind which the file has all names that are wanted, if there is just one such; else none."""
    first = next(iter(wanted), "")
    if not wanted or first in found:
        return ""
    heads = (name.removesuffix(first) for name in found if name.endswith(f".{first}"))
    whole = [head for head in heads if all(head + name in found for name in wanted)]
    return whole[0] if len(whole) == 1 else ""


def _listed(names: Collection[str]) -> str:
    return ", ".join([*list(names)[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])]) or "nothing"


def _size(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def split_weights(node: Any) -> tuple[Any, Checkpoint | None]:
    """A model's configuration without ``weights``, a key that every choice may have, and the file that it names.

    Raises UserError for a value that is no path.
    """
    if not isinstance(node, Mapping):
        return node, None
    plain, weights = {key: value for key, value in node.items() if key != "weights"}, node.get("weights")
    if weights is None:
        return plain, None
    if not isinstance(weights, str) or not weights:
        raise UserError(f"model.weights={weights}: is no path; give a .safetensors file, or null")
    return plain, Checkpoint(Path(weights))
