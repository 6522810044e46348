"""Prepared datasets: the `.npz` format, its checks, and checksums of contents.

The layout is MedMNIST's (Yang et al., 2023): ``train_images`` ``[N, H, W]`` or ``[N, H, W, 3]`` uint8,
``train_labels`` ``[N, 1]`` (``[N, K]`` of 0 and 1 where an image has several), ``test_images`` and
``test_labels`` alike. Further members, such as ``val_images``, may be there and are not read.
"""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from privsweep.interface.contents import DataFiles
from privsweep.interface.errors import UserError
from privsweep.interface.machine import check_memory
from privsweep.interface.randomness import Rng
from privsweep.store.atomic import whole_file

Members = Mapping[str, np.ndarray]
MEMBERS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True)
class Arrays:
    """A checked dataset in host memory."""

    train_images: np.ndarray  # uint8 [N, H, W, C], C is 1 or 3
    train_labels: np.ndarray  # int64 [N], or [N, K] of 0 and 1
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    outlined: bool = False  # images are all one pixel, which stands for those that were not read

    @property
    def multilabel(self) -> bool:
        return self.train_labels.ndim == 2


def validated(members: Members, what: str) -> Arrays:
    """The dataset in ``members``; raises UserError, opening with ``what``, where it breaks the format."""
    missing = [name for name in MEMBERS if name not in members]
    if missing:
        raise UserError(f"{what}: {', '.join(missing)} missing; the format has {', '.join(MEMBERS)}")
    values = {name: members[name] for name in MEMBERS}
    images = {split: _images(values[f"{split}_images"], f"{what}: {split}_images") for split in ("train", "test")}
    labels = {split: _labels(values[f"{split}_labels"], f"{what}: {split}_labels") for split in ("train", "test")}
    for split in images:
        if len(images[split]) != len(labels[split]):
            raise UserError(
                f"{what}: {split}_images are {len(images[split])}, {split}_labels {len(labels[split])}; "
                "every image needs its label"
            )
    if images["train"].shape[1:] != images["test"].shape[1:]:
        raise UserError(
            f"{what}: train_images are {_size(images['train'])}, test_images {_size(images['test'])}; "
            "both must have one size and as many channels"
        )
    if labels["train"].shape[1:] != labels["test"].shape[1:]:
        raise UserError(f"{what}: train_labels and test_labels have different numbers of columns; make them equal")
    classes = _classes(labels["train"], labels["test"], what)
    return Arrays(images["train"], labels["train"], images["test"], labels["test"], classes)


def _images(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype != np.uint8:
        raise UserError(f"{what} are {array.dtype}; store pixels as uint8, 0 to 255")
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3) or 0 in array.shape:
        raise UserError(f"{what} have the shape {list(array.shape)}; store [N,H,W] or [N,H,W,3] with N of 1 or more")
    return array


def _labels(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "iub":
        raise UserError(f"{what} are {array.dtype}; store class numbers as integers")
    if array.ndim not in (1, 2) or 0 in array.shape:
        raise UserError(f"{what} have the shape {list(array.shape)}; store [N,1], or [N,K] for several labels an image")
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    return array.astype(np.int64)


def _classes(train: np.ndarray, test: np.ndarray, what: str) -> int:
    """The number of classes: single labels are 0 to K-1, and each of them occurs in training."""
    if train.ndim == 2:
        if max(train.max(), test.max()) > 1 or min(train.min(), test.min()) < 0:
            raise UserError(f"{what}: labels of several columns must be 0 or 1")
        return train.shape[1]
    present = np.unique(train)
    if present[0] != 0 or present[-1] != len(present) - 1:
        gap = int(present[0]) if present[0] < 0 else int(np.setdiff1d(np.arange(len(present)), present)[0])
        fault = f"{gap} is below 0" if gap < 0 else f"no image has label {gap}, the largest is {present[-1]}"
        raise UserError(f"{what}: train_labels must count from 0 without a gap: {fault}; number the classes anew")
    strange = np.setdiff1d(test, present)
    if len(strange):
        raise UserError(
            f"{what}: test_labels have {strange[0]}, which no training image has (0 to {present[-1]}); "
            "give both splits the same classes"
        )
    return len(present)


def _size(images: np.ndarray) -> str:
    return "x".join(map(str, images.shape[1:]))


def read(path: Path, what: str, pixels: bool = True) -> Arrays:
    """The dataset of an `.npz`; nothing is unpickled. Raises UserError, opening with ``what``.

    Without ``pixels`` of the images the headers alone are read.
    """
    try:
        shapes = _check_members(path, what, pixels)
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            there = [name for name in MEMBERS if name in archive.files]
            blank = {name for name in there if not pixels and name.endswith("_images")}
            members = {name: stand_in(*shapes[name]) if name in blank else archive[name] for name in there}
    except (
        OSError,
        ValueError,
        EOFError,
        RuntimeError,  # encrypted, or NotImplementedError of a compression that zipfile does not know
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UserError(f"{what}: cannot be read as .npz ({reason(error)}); replace the file") from error
    return replace(validated(members, what), outlined=not pixels)


def stand_in(shape: tuple[int, ...], dtype: Any = np.uint8) -> np.ndarray:
    """An array that has a shape and takes no memory."""
    return np.broadcast_to(np.zeros((), dtype), shape)


def _check_members(path: Path, what: str, held: bool) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and type by name. Raises ValueError where a member is no array, or none of the size that it claims;
    UserError for too much where all of it is to be ``held``."""
    found = {}
    with zipfile.ZipFile(path) as archive:
        there = [info for info in archive.infolist() if info.filename.removesuffix(".npy") in MEMBERS]
        for info in there:
            with archive.open(info) as file:
                shape, dtype = _header(file, info.filename)
                size = math.prod(shape) * dtype.itemsize + file.tell()
            if size != info.file_size:
                raise ValueError(f"{info.filename} claims {size:,} bytes and has {info.file_size:,}")
            found[info.filename.removesuffix(".npy")] = shape, dtype
    if held:
        check_memory(sum(info.file_size for info in there), f"{what}: holding its arrays", "take a smaller part of it")
    return found


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an array, of which no more is read."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"{name} has the version {version} of the format; save it again with a current NumPy")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise ValueError(f"{name} holds Python objects, which are never unpickled")
    return shape, dtype


def write(path: Path, members: Members) -> None:
    """Writes an `.npz` that is either complete or not there. Uncompressed: it loads several times faster."""
    with whole_file(path) as draft:
        np.savez(draft, **members)  # type: ignore[arg-type]


def npz_checksum(path: Path, what: str) -> str:
    """A checksum of an `.npz`'s contents out of the archive's directory; no image is decompressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            return checksum((member.filename, member.CRC) for member in archive.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{what}: cannot be read as .npz ({reason(error)}); replace the file") from error


def npz_files(name: str, path: Path, absent: str) -> DataFiles:
    """The one file of a dataset as it is now; ``name`` and ``absent`` as in DataFiles."""
    place = str(path.absolute())
    if not path.is_file():
        return DataFiles(name, place, None, 0, absent)
    about = path.stat()
    return DataFiles(name, place, f"{about.st_size}-{about.st_mtime_ns}", about.st_mtime_ns, absent)


def checksum(parts: Iterable[tuple[str, int]]) -> str:
    """16 hex digits for (name, CRC-32) pairs in whatever order."""
    return hashlib.sha256(repr(sorted(parts)).encode()).hexdigest()[:16]


def reason(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__


def held_out(n: int, fraction: float, *purpose: str | int) -> np.ndarray:
    """A mask ``[n]`` of test images: the same for every seed of a run, so that test images stay unseen."""
    mask = np.zeros(n, dtype=bool)
    order = Rng(0, ("dataset", "test", *purpose)).permutation(n).numpy()
    mask[order[: min(round(n * fraction), n - 1)]] = True
    return mask
