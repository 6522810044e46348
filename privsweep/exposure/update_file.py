"""Updates captured elsewhere, as files: the layout.

A ``.safetensors`` file holds what one victim sent, or ``V`` victims whose updates start from the same weights:

- ``weights.<name>``: parameters and buffers before the update, by their names in the network's ``state_dict``; buffers
  that are left out count as those of a new network,
- ``gradient.<name>`` (mean over the batch) or ``difference.<name>`` (weights after less weights before) for every
  parameter that was sent, of its shape, or ``[V, ...]``; those that are left out count as frozen,
- ``statistics.<name>``: buffers that were sent along, running means and variances, as the client left them; of their
  shape, or ``[V, ...]``,
- ``labels``, integers ``[N]`` or ``[V, N]``, where they are known,
- ``originals``, ``[N, C, H, W]`` or ``[V, N, C, H, W]`` in [0, 1], where reconstructions are to be scored;

and, as text in its metadata, ``batch_size`` (N, the images behind one update) and, of a difference, ``lr``,
``local_steps``, ``local_batch_size`` (images a step, N by default), ``optimizer`` (sgd, adam) and ``momentum``. Floats
of any precision are read as float32.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor
from typing_extensions import TypedDict

from privsweep.interface.contents import DataFiles
from privsweep.interface.errors import AbsentError, UserError
from privsweep.interface.printable import printable
from privsweep.interface.records import Recipe

What = Literal["gradient", "difference"]
KINDS: tuple[What, ...] = ("gradient", "difference")
REMEDY = "write it with privsweep.save_update"
SUFFIX = ".safetensors"


class Notes(TypedDict):
    """What the metadata say; all but the first of a difference."""

    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    lr: NotRequired[Annotated[float, Field(gt=0, allow_inf_nan=False)]]
    local_steps: NotRequired[Annotated[int, Field(ge=1, le=1_000_000)]]
    local_batch_size: NotRequired[Annotated[int, Field(ge=1, le=1_000_000)]]
    optimizer: NotRequired[Literal["sgd", "adam"]]
    momentum: NotRequired[Annotated[float, Field(ge=0, lt=1)]]


_NOTES = TypeAdapter(Notes)


def recipe(notes: Notes) -> Recipe:
    """How the client trained. The learning rate behind a gradient is NaN where it was not noted."""
    steps, momentum = notes.get("local_steps", 1), notes.get("momentum", 0.0)
    each = notes.get("local_batch_size", notes["batch_size"])
    return Recipe(notes.get("optimizer", "sgd"), notes.get("lr", math.nan), momentum, steps, each)


@dataclass(frozen=True)
class UpdateFile:
    """One such file; nothing is unpickled. ``what`` opens every complaint."""

    path: Path
    what: str

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of all tensors, out of the header. Raises UserError for another kind of file."""
        with self._opened() as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118

    def kind(self) -> What:
        """Raises UserError unless there are tensors of one kind."""
        names = self.shapes()
        found = [kind for kind in KINDS if any(name.startswith(f"{kind}.") for name in names)]
        if len(found) != 1:
            has = "both gradient.* and difference.*" if found else "neither gradient.* nor difference.*"
            raise UserError(f"{self.what}: has {has}; one of them is the update: {REMEDY}")
        return found[0]

    def sent(self) -> frozenset[str]:
        """The names of the parameters that the update holds. Raises UserError as ``kind``."""
        return frozenset(named(self.shapes(), self.kind()))

    def notes(self) -> Notes:
        """Raises UserError for a note that is missing or out of bounds."""
        with self._opened() as file:
            given = {k: v for k, v in (file.metadata() or {}).items() if k in Notes.__annotations__}
        try:
            notes = _NOTES.validate_python(given)
        except ValidationError as error:
            problem = error.errors()[0]
            name, value = problem["loc"][0], problem["input"]
            if problem["type"] == "missing":
                raise UserError(f"{self.what}: its metadata have no {name}; {REMEDY}") from error
            said = f"{problem['msg'][:1].lower()}{problem['msg'][1:]}"
            raise UserError(f"{self.what}: its metadata say {name}={printable(str(value))}: {said}") from error
        if self.kind() == "difference" and not {"lr", "local_steps"} <= notes.keys():
            missing = " and ".join(name for name in ("lr", "local_steps") if name not in notes)
            raise UserError(f"{self.what}: its metadata have no {missing}, which a difference needs; {REMEDY}")
        return notes

    def tensor(self, name: str) -> Tensor:
        """On the CPU."""
        with self._opened() as file:
            return file.get_tensor(name)

    def digest(self) -> str:
        """Of all bytes."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise AbsentError(f"{self.what}: cannot be read ({error.strerror}); name another file") from error

    def _opened(self) -> Any:
        try:
            return safe_open(self.path, "pt")
        except (SafetensorError, OSError) as error:
            said = printable(str(error)).strip()
            raise UserError(f"{self.what}: cannot be read as safetensors ({said}); {REMEDY}") from error


@dataclass(frozen=True)
class UpdateFiles:
    """A file, or all ``.safetensors`` files of a folder in the order of their names; for ``Contents``."""

    path: Path
    key: str  # of the setting that names it

    def each(self) -> list[UpdateFile]:
        """Raises AbsentError where there is none."""
        if self.path.is_dir():
            found = sorted(p for p in self.path.glob(f"*{SUFFIX}") if p.is_file() and not p.name.startswith("."))
        else:
            found = [self.path] if self.path.is_file() else []
        if not found:
            raise AbsentError(self._absent())
        return [UpdateFile(path, printable(f"{self.key}={path}")) for path in found]

    def files(self) -> DataFiles:
        """Which there are, as they are now."""
        name, place = f"{self.key}={self.path}", str(self.path.absolute())
        try:
            stats = [file.path.stat() for file in self.each()]
        except (AbsentError, OSError):
            return DataFiles(name, place, None, 0, self._absent())
        state = repr([(about.st_size, about.st_mtime_ns) for about in stats])
        youngest = max(about.st_mtime_ns for about in stats)
        return DataFiles(name, place, hashlib.sha256(state.encode()).hexdigest()[:16], youngest, self._absent())

    def fingerprint(self) -> str:
        """16 hex digits of what is in the files, in their order, wherever they lie."""
        return hashlib.sha256("".join(file.digest() for file in self.each()).encode()).hexdigest()[:16]

    def _absent(self) -> str:
        return (
            f"{self.key}={self.path}: no such file, nor a folder with any; name a {SUFFIX} file of "
            "privsweep.save_update, or a folder of them"
        )


def named(names: Mapping[str, Any], part: str) -> dict[str, Any]:
    """Those of ``<part>.<name>``, by name."""
    return {name.removeprefix(f"{part}."): value for name, value in names.items() if name.startswith(f"{part}.")}
