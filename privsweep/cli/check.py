"""``privsweep-data check``: whether data of one's own are fit to use, and the command that uses them."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np

from privsweep.dataset.image_tree import decode, scan
from privsweep.dataset.npz_format import Arrays, read
from privsweep.dataset.pixels import Channels
from privsweep.interface.errors import UserError
from privsweep.interface.printable import printable

MISSING = 2  # exit code
TEST_FRACTION = 0.2  # as in conf/dataset/folder.yaml
LARGE = 64  # pixels a side above which the default model, made for small images, is not suggested
FEW = 10  # training images of a class below which it is said
UNEVEN = 20  # times as many images of one class as of another, above which it is said
CLIENTS, VICTIMS = 3, 8  # as in conf/fl_setting/fedavg.yaml
_SIDE = 32  # suggested where images differ in size
_PLAIN = re.compile(r"[\w.=/@+-]+")  # what neither a shell nor Hydra takes for anything else


def check(paths: Sequence[str]) -> int:
    """One paragraph for each path; the exit code: 0 all fine, 1 some at fault, 2 a path that is not there."""
    if not paths:
        print("check: names no file or folder; write privsweep-data check PATH", file=sys.stderr)
    return max(map(_check, paths), default=MISSING)


def _check(given: str) -> int:
    path, what = Path(given), printable(given)
    if not path.exists():
        print(f"{what}: no such file or folder; write privsweep-data check PATH", file=sys.stderr)
        return MISSING
    try:
        lines = _update(path, what) if _is_update(path) else _folder(path, what) if path.is_dir() else _npz(path, what)
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    except OSError as error:
        print(printable(f"{what}: cannot be read ({error.strerror})"), file=sys.stderr)
        return 1
    first, *others = lines
    print(f"{what}: fine: {first}")
    for line in others:
        print(f"  {line}")
    return 0


def _is_update(path: Path) -> bool:
    suffix = ".safetensors"
    return path.suffix == suffix or (path.is_dir() and any(path.glob(f"*{suffix}")))


def _npz(path: Path, what: str) -> list[str]:
    return _said(read(path, what), {"dataset": "npz", "path": _value(path)})


def _folder(path: Path, what: str) -> list[str]:
    """As it is, or with the least that makes all images alike."""
    tree = scan(path, TEST_FRACTION, what)
    refusal: UserError | None = None
    options: list[tuple[int | None, Channels]] = list(product((None, _SIDE), ("same", "rgb")))
    for side, channels in options:
        try:
            arrays = decode(tree, side, channels, what)
        except UserError as error:
            refusal = refusal or error
            continue
        more = {"resize": str(side)} if side else {}
        more |= {"channels": channels} if channels != "same" else {}
        lines = _said(arrays, {"dataset": "folder", "path": _value(path), **more})
        named = ", ".join(tree.classes[:5]) + (", ..." if len(tree.classes) > 5 else "")
        alike = ["not all alike: the command below makes them so"] if more else []
        return [*lines[:1], f"classes: {printable(named)}", *alike, *lines[1:]]
    assert refusal
    raise refusal


def _said(arrays: Arrays, own: dict[str, str]) -> list[str]:
    """What is in it, what to know of it, and the command. ``own``: the choice of the group, and its values."""
    _, height, width, channels = arrays.train_images.shape
    n, size = len(arrays.train_images), f"{channels}x{height}x{width}"
    kind = f"{arrays.classes} labels an image" if arrays.multilabel else f"{arrays.classes} classes"
    lines = [f"{n} training and {len(arrays.test_images)} test images of {size}, {kind}"]
    choice, values = own["dataset"], [f"{name}={value}" for name, value in own.items() if name != "dataset"]
    if arrays.multilabel:
        lines.append("several labels an image: for an adversary's own data only, beside a dataset of that shape")
        return [*lines, _command(f"dataset@prior={choice}", *(f"prior.{value}" for value in values))]
    counts = np.bincount(arrays.train_labels)
    if counts.min() < FEW:
        lines.append(f"few images: class {counts.argmin()} has {counts.min()} for training")
    if counts.max() > UNEVEN * counts.min():
        lines.append(f"uneven: from {counts.min()} to {counts.max()} training images a class")
    if arrays.train_images.max() <= 1:
        lines.append("dark: no pixel is above 1 of 255; multiply by 255 if yours go from 0 to 1")
    more = ["model=resnet18", "attack=iga"] if max(height, width) > LARGE else []
    if n < CLIENTS * VICTIMS:
        more.append(f"fl_setting.victims={max(1, n // CLIENTS)}")
    return [*lines, _command(f"dataset={choice}", *(f"dataset.{value}" for value in values), *more)]


def _update(path: Path, what: str) -> list[str]:
    from privsweep.exposure.captured_updates import Expected, read_updates  # takes PyTorch to import
    from privsweep.exposure.update_file import UpdateFile, UpdateFiles

    files = [UpdateFile(f.path, printable(str(f.path))) for f in UpdateFiles(path, what).each()]
    found = read_updates(files, Expected.told_by(files[0]), None)
    count = sum(found.weights[name].numel() for name in found.delta)
    victims, batch = len(next(iter(found.delta.values()))), found.notes["batch_size"]
    having = [name for name in ("labels", "originals") if getattr(found, name) is not None]
    lines = [
        f"{found.what}s of {victims} victim{'s' * (victims > 1)}, {batch} image{'s' * (batch > 1)} behind each, of "
        f"{len(found.delta)} parameters ({count:,} numbers)" + (f", with {' and '.join(having)}" if having else "")
    ]
    shape = "C,H,W" if found.originals is None else ",".join(map(str, found.originals.shape[2:]))
    lines.append("put the shape and the classes of the images, and the network, in place of capitals")
    own = ["fl_setting=captured", f"fl_setting.path={_value(path)}", "dataset=unseen", f"dataset.shape=[{shape}]"]
    return [*lines, _command(*own, "dataset.classes=K", "model=NETWORK")]


def _value(path: Path) -> str:
    """As Hydra reads it."""
    text = str(path)
    return text if _PLAIN.fullmatch(text) else "'{}'".format(text.replace("\\", r"\\").replace("'", r"\'"))


def _command(*overrides: str) -> str:
    return "use it: privsweep " + " ".join(map(_typed, overrides))


def _typed(override: str) -> str:
    """As a shell reads it."""
    if _PLAIN.fullmatch(override):
        return override
    return shlex.quote(override) if re.search(r'["$`\\!]', override) else f'"{override}"'
