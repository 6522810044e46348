"""The ``privsweep-data`` command: downloads datasets where there is a network, for machines without one."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from privsweep.cli.one_line import one_line
from privsweep.cli.words import keys_in
from privsweep.dataset.sources import BY_HAND, OFFICIAL, ByHand
from privsweep.interface.errors import UserError
from privsweep.interface.folders import check_folder
from privsweep.interface.printable import printable

if TYPE_CHECKING:  # help and refusals need neither NumPy nor PyTorch
    import numpy as np

    from privsweep.dataset.npz_format import Arrays

NAMES = (*OFFICIAL, *BY_HAND)
DATA_DIR = "data"  # as in conf/config.yaml
TEST_FRACTION = 0.2
NEEDS_NOTHING = "digits"
_WIDTH = max(map(len, NAMES))

DESCRIPTION = """\
Prepare datasets: download each official copy, check it, and write it as data_dir/<name>.npz. What is there
already is checked and kept. Without names, tell which datasets are there.

check: whether a file or a folder of your own is fit to use, what is in it, and the command that uses it.
"""
EPILOG = f"""\
datasets:
{fill(", ".join(OFFICIAL), 100, initial_indent="  ", subsequent_indent="  ")}
  {", ".join(BY_HAND)}: have no official download; give their images with --from
  {NEEDS_NOTHING} needs no file: it ships inside scikit-learn

examples:
  privsweep-data cifar10 mnist
  privsweep-data cifar10 data_dir=/scratch/data
  privsweep-data medical_mnist --from ~/archive
  privsweep-data celeba_hq --from ~/CelebAMask-HQ
  privsweep-data check mine.npz xrays/ update.safetensors

exit code: 0 all there, all fine; 1 some could not be prepared or are at fault; 2 the command line is wrong
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Prepares what ``argv`` names, one line each on the standard output; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="privsweep-data",
        usage="%(prog)s [NAME ...] [data_dir=FOLDER] [--from FOLDER]\n       %(prog)s check PATH [PATH ...]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets to prepare, of those listed below")
    parser.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FOLDER",
        help=f"{' or '.join(BY_HAND)} from a folder of its images; a fifth become test images",
    )
    try:
        options = one_line(parser, "privsweep-data").parse_intermixed_args(argv)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    if options.names[:1] == ["check"]:
        from privsweep.cli.check import check

        return check(options.names[1:])
    try:
        names, settings = keys_in(options.names)
        data_dir = Path(settings.pop("data_dir", DATA_DIR)).expanduser()
        if settings:
            key = next(iter(settings))
            raise UserError(f"{key}={settings[key]}: the only key here is data_dir; write data_dir=FOLDER")
        for name in names:
            _known(name)
        if options.source is not None and (len(names) != 1 or names[0] not in BY_HAND):
            raise UserError(f"--from={options.source}: goes with one name that has no download: {', '.join(BY_HAND)}")
        check_folder("data_dir", data_dir)
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        return 2
    if not names:
        return _list(data_dir)
    failed = [name for name in names if not _prepare(name, data_dir, options.source)]
    return 1 if failed else 0


def _known(name: str) -> None:
    if name in NAMES or name == NEEDS_NOTHING:
        return
    near = difflib.get_close_matches(name.lower().replace("-", "_"), NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"{name}: no such dataset; {hint}there are {', '.join(NAMES)}")


def _prepare(name: str, data_dir: Path, source: Path | None) -> bool:
    """One dataset, told in one line; whether it is there now."""
    if name == NEEDS_NOTHING:
        _say(name, "ships inside scikit-learn, nothing to prepare")
        return True
    from privsweep.dataset.download import prepared
    from privsweep.dataset.npz_format import read

    path = data_dir / f"{name}.npz"
    there = os.path.exists(path)  # a name that is too long is told where it is to be written
    try:
        if source is not None and not there:
            _convert(BY_HAND[name], source.expanduser(), path)
        elif not there:
            print(f"{name}: downloading", file=sys.stderr)
        arrays = read(prepared(name, data_dir), f"dataset={name}: {path}")
    except UserError as error:
        print(printable(str(error)), file=sys.stderr)
        return False
    except OSError as error:
        reason = f"dataset={name}: {path} cannot be written ({error.strerror}); set data_dir"
        print(printable(reason), file=sys.stderr)
        return False
    _say(name, f"{path}  {'there' if there else 'written'}  {_summary(arrays, path)}")
    return True


def _convert(kind: ByHand, source: Path, path: Path) -> None:
    """A folder of images to a prepared file."""
    from privsweep.dataset.image_tree import decode
    from privsweep.dataset.npz_format import write

    what = f"--from={source}"
    arrays = decode(kind.scan(source, TEST_FRACTION, what), kind.side, kind.channels, what)
    members: dict[str, np.ndarray] = {}
    for split, images, labels in (
        ("train", arrays.train_images, arrays.train_labels),
        ("test", arrays.test_images, arrays.test_labels),
    ):
        members[f"{split}_images"] = images[..., 0] if images.shape[3] == 1 else images
        members[f"{split}_labels"] = labels[:, None]
    write(path, members)


def _list(data_dir: Path) -> int:
    for name in NAMES:
        path = data_dir / f"{name}.npz"
        state = f"{path}  {path.stat().st_size / 1e6:.1f} MB" if path.exists() else f"not in {data_dir}"
        _say(name, state)
    _say(NEEDS_NOTHING, "ships inside scikit-learn")
    return 0


def _summary(arrays: Arrays, path: Path) -> str:
    _, height, width, channels = arrays.train_images.shape
    counts = f"{len(arrays.train_images)} + {len(arrays.test_images)} images {channels}x{height}x{width}"
    labels = f"{arrays.classes} {'labels an image' if arrays.multilabel else 'classes'}"
    return f"{counts}, {labels}, {path.stat().st_size / 1e6:.1f} MB"


def _say(name: str, text: str) -> None:
    print(f"{name:<{_WIDTH}}  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
