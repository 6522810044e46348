"""Initial weights out of a file of the user's own."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from privsweep.interface.data import Architecture, DataFiles, Domain, Tensors
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.randomness import Rng


@dataclass(frozen=True)
class Checkpoint:
    """Parameters and buffers by name in a `.safetensors` file; nothing is ever unpickled."""

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
            raise UserError(
                f"model.weights={self.path}: cannot be read as safetensors ({error}); write the state with "
                "safetensors.torch.save_file"
            ) from error

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
        self._compare({name: tuple(t.shape) for name, t in state.items()})
        if not any(t.is_meta for t in state.values()):
            with torch.device("cpu"):
                model.load_state_dict(dict(self.checkpoint.tensors()))
        return model

    def _compare(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        found, what = self.checkpoint.shapes(), f"model.weights={self.checkpoint.path}"
        for name, shape in wanted.items():
            if name not in found:
                raise UserError(f"{what}: has no {name}, {_size(shape)} in the network; choose the model that it is of")
            if found[name] != shape:
                raise UserError(
                    f"{what}: {name} is {_size(found[name])} there and {_size(shape)} in the network; choose the model "
                    "and the dataset that it is of"
                )
        for name in sorted(found.keys() - wanted.keys()):
            raise UserError(f"{what}: has {name}, which the network has not; choose the model that it is of")


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
