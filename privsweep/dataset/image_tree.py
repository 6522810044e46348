"""Images in one folder for each class, read with Pillow."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from privsweep.dataset.npz_format import Arrays, checksum, held_out, stand_in, validated
from privsweep.dataset.pixels import Channels, check_resize
from privsweep.interface.errors import AbsentError, UserError

GREY = ("1", "L", "LA", "La")  # Pillow's modes of one 8-bit channel; transparency is dropped
DEEP = ("I", "F")  # more than 8 bits: no scale to 0-255 is known
THREADS = 8


@dataclass(frozen=True)
class Tree:
    """Files with their class numbers; classes are numbered in the order of their names."""

    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]


def scan(root: Path, test_fraction: float, what: str) -> Tree:
    """The images under ``root``: ``train/CLASS/*`` and ``test/CLASS/*``, or ``CLASS/*`` split here.

    The split takes ``test_fraction`` of every class, the same images under every seed. Images may lie
    deeper below their class; files that are no images by their suffix, and hidden ones, are passed over.
    Raises UserError, opening with ``what``, where there are fewer than two classes or no test image.
    """
    if not root.is_dir():
        raise AbsentError(no_folder(what))
    halves = [root / half for half in ("train", "test")]
    if all(half.is_dir() for half in halves):
        named, tested = (_classes(half, what) for half in halves)
        unknown = sorted(set(tested) - set(named))
        if unknown:
            raise UserError(f"{what}: class {unknown[0]} is in test/ but not in train/; give both the same classes")
        classes = tuple(named)
        train = [(file, k) for k, name in enumerate(classes) for file in named[name]]
        test = [(file, k) for k, name in enumerate(classes) for file in tested.get(name, ())]
    else:
        named = _classes(root, what)
        classes = tuple(named)
        train, test = [], []
        for k, name in enumerate(classes):
            mask = held_out(len(named[name]), test_fraction, "folder", name)
            for file, out in zip(named[name], mask, strict=True):
                (test if out else train).append((file, k))
    if len(classes) < 2:
        count = f"{len(classes)} subfolder{'s' * (len(classes) != 1)}"
        raise UserError(
            f"{what}: {count} with images; give it two or more, one for every class, or train/ and test/ with those"
        )
    if not test:
        lone = len(train) == len(classes)  # of two images, one can be held out
        remedy = "add images, two or more of a class" if lone else "raise dataset.test_fraction, or add images to test/"
        raise UserError(f"{what}: no test image; {remedy}")
    return Tree(classes, tuple(train), tuple(test))


def no_folder(what: str) -> str:
    """That there is no folder, in a line that opens with ``what``."""
    return f"{what}: no such folder; set it to one with a subfolder of images for every class"


def tree_state(root: Path, tree: Tree) -> tuple[str, int]:
    """A digest of the images' names, sizes and times, and the time of the youngest in nanoseconds; reads none."""
    files = sorted(file for file, _ in (*tree.train, *tree.test))
    digest, youngest = hashlib.sha256(), 0
    for file in files:
        about = file.stat()
        digest.update(repr((file.relative_to(root).as_posix(), about.st_size, about.st_mtime_ns)).encode())
        youngest = max(youngest, about.st_mtime_ns)
    return digest.hexdigest()[:16], youngest


def _classes(folder: Path, what: str) -> dict[str, list[Path]]:
    """Class name to its image files, both sorted; folders without any image are no classes.

    Raises UserError for what has the name of an image and cannot be read as a file: a pipe would never end.
    """
    suffixes = Image.registered_extensions().keys()
    found = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        named = [p for p in sub.rglob("*") if p.suffix.lower() in suffixes and not p.name.startswith(".")]
        files = [p for p in named if p.is_symlink() or not p.is_dir()]
        if strange := next((p for p in files if not _is_file(p)), None):
            kind = "a link that leads to no file" if strange.is_symlink() else "no file"
            raise UserError(f"{what}: {strange} is {kind}; remove or replace it")
        if files:
            found[sub.name] = sorted(files)
    return found


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # links that go round in circles
        return False


def tree_checksum(root: Path, tree: Tree) -> str:
    """A checksum of the images' names below ``root`` and of their bytes."""
    files = [file for file, _ in (*tree.train, *tree.test)]
    return checksum((file.relative_to(root).as_posix(), zlib.crc32(file.read_bytes())) for file in files)


def decode(tree: Tree, side: int | None, channels: Channels, what: str) -> Arrays:
    """All pixels, the way up that EXIF tells, scaled to a square of ``side`` where given.

    Raises UserError naming the faulty file.
    """
    files = [file for file, _ in (*tree.train, *tree.test)]
    if side is not None:
        check_resize(side, len(files), what)
    with ThreadPoolExecutor(THREADS) as pool, _quiet():
        images = list(pool.map(lambda file: _decode(file, side, channels, what), files))
    for file, image in zip(files, images, strict=True):
        if image.shape[2] != images[0].shape[2]:
            raise UserError(
                f"{what}: {_kind(images[0])} {files[0]} but {_kind(image)} {file}; set dataset.channels=grey or rgb"
            )
        if image.shape != images[0].shape:
            raise UserError(
                f"{what}: {files[0]} is {_size(images[0])} but {file} {_size(image)}; "
                "set dataset.resize=32 or another side"
            )
    n = len(tree.train)
    members = {
        "train_images": np.stack(images[:n]),
        "train_labels": _labels(tree.train),
        "test_images": np.stack(images[n:]),
        "test_labels": _labels(tree.test),
    }
    return validated(members, what)


def outlined(tree: Tree, side: int | None, channels: Channels, what: str) -> Arrays:
    """What ``decode`` gives, without pixels: the first image stands for all. Raises UserError for that one."""
    with _quiet():
        first = _decode(tree.train[0][0], side, channels, what)
    members: dict[str, np.ndarray] = {}
    for split, files in (("train", tree.train), ("test", tree.test)):
        members |= {f"{split}_images": stand_in((len(files), *first.shape)), f"{split}_labels": _labels(files)}
    return replace(validated(members, what), outlined=True)


def _labels(files: Sequence[tuple[Path, int]]) -> np.ndarray:
    return np.array([k for _, k in files])


def _decode(file: Path, side: int | None, channels: Channels, what: str) -> np.ndarray:
    try:
        with Image.open(file) as image:
            if image.mode.split(";")[0] in DEEP:
                raise UserError(f"{what}: {file} has more than 8 bits a pixel; convert it to 8 bits")
            _turn_upright(image)
            grey = channels == "grey" or (channels == "same" and image.mode in GREY)
            converted = image.convert("L" if grey else "RGB")
    except Image.DecompressionBombError as error:
        raise UserError(f"{what}: {file} has more pixels than Pillow decodes; scale it down") from error
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise UserError(f"{what}: {file} is no readable image; remove or replace it") from error
    if side is not None and converted.size != (side, side):
        converted = converted.resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(converted)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _turn_upright(image: Image.Image) -> None:
    """As a camera was held: every viewer turns a photograph so, and the network must see the same."""
    with suppress(SyntaxError):  # EXIF that cannot be read tells nothing
        ImageOps.exif_transpose(image, in_place=True)


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # only twice the limit is refused
        warnings.filterwarnings("ignore", "Corrupt EXIF data")
        yield


def _kind(image: np.ndarray) -> str:
    return "grey" if image.shape[2] == 1 else "colour"


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"
