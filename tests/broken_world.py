"""A folder of files that are broken in every way that a user, a disk or an enemy has thought of so far."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import make_members
from PIL import Image

TABLE = """\
# @package _global_
table:
  title: A
  place: b
  rows: {mse: {label: MSE, metric: mse}}
  columns: {a: {label: A, overrides: [OVERRIDE]}}
  seeds: [0]
"""
BOMB = b"a: &a [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(8)
)

# Of any group: the name of a choice, and what its file holds.
CHOICES = {
    "broken": b"a: [1\nb: }{",
    "binary": bytes(range(256)),
    "listed": b"- a\n- b\n",
    "words": b"just words\n",
    "empty": b"",
    "untargeted": b"guess: 1\n",
    "number": b"3\n",
    "tagged": b"a: !!python/object/apply:os.system ['touch ran']\n",
    "foreign": b"a: !foreign x\n",
    "twice": b"_target_: a\n_target_: b\n",
    "circle": b"a: &a [*a]\n",
    "bomb": BOMB,
    "nul": b"a: \x00\n",
    "utf16": "_target_: x\n".encode("utf-16"),
}
EXPERIMENTS = {
    **{name: b"# @package _global_\n" + text for name, text in CHOICES.items()},
    "table_listed": b"# @package _global_\ntable: [1, 2]\n",
    "table_words": b"# @package _global_\ntable: words\n",
    "figure_words": b"# @package _global_\nfigure: words\n",
    "defaults_mapped": b"# @package _global_\ndefaults: {a: b}\n",
    "defaults_number": b"# @package _global_\ndefaults: [3]\n",
    "defaults_nothing": b"# @package _global_\ndefaults: [{override /attack: nosuch}]\n",
    "mistyped": b"# @package _global_\natack: {lr: 1}\n",
    "mistyped_value": b"# @package _global_\nattack: {itertions: 1}\n",
    "mistyped_inside": b"# @package _global_\nfl_setting: {capture: {clinet: 1}}\n",
    "mistyped_table": b"# @package _global_\ntable: {title: A, colums: {}}\n",
    "mistyped_row": TABLE.replace("metric:", "metrik: x, metric:").encode(),
    "searching": b"# @package _global_\nhydra: {searchpath: ['pkg://evil']}\n",
    "good": TABLE.replace("OVERRIDE", "attack=blind").encode(),
    "two words": TABLE.replace("OVERRIDE", "attack=blind").encode(),
    "cell_null": TABLE.replace("OVERRIDE", "attack=null").encode(),
    "cell_brackets": TABLE.replace("OVERRIDE", "'attack=[}'").encode(),
}


def broken_world(root: Path) -> Path:
    """Fills ``root``, the folder that commands are typed in: conf/, files of data, folders of images."""
    for group in ("attack", "defense", "model"):
        _choices(root / "conf" / group, CHOICES)
    _choices(root / "conf" / "experiment", EXPERIMENTS)
    (root / "file").write_text("x")
    (root / "weights.safetensors").write_bytes(b"\xff\xff\xff\xff\xff\xff\xff\x7f{}")
    os.mkfifo(root / "pipe.npz")
    (root / "dangling.npz").symlink_to("nowhere")
    (root / "empty.npz").write_bytes(b"")
    np.savez(root / "one_class.npz", **make_members(train=60, test=20, classes=1, size=(8, 8)))  # type: ignore[arg-type]
    for name, make in ARCHIVES.items():
        make(root / f"{name}.npz")
    for name, spoil in FOLDERS.items():
        for number in range(12):
            file = root / name / "ab"[number % 2] / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), number).save(file)
        spoil(root / name / "a")
    return root


def _choices(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / f"{name}.yaml").write_bytes(content)


def _members() -> dict[str, bytes]:
    """The members of a good archive, each as a file."""
    made = {}
    for name, array in make_members(train=60, test=20, size=(8, 8)).items():
        file = io.BytesIO()
        np.save(file, array)
        made[name] = file.getvalue()
    return made


def _write(path: Path, members: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def _header(shape: tuple[int, ...]) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _pickled(path: Path) -> None:
    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    _write(path, {**_members(), "train_labels": file.getvalue()})


def _patched(path: Path, local: int, central: int, value: int) -> None:
    """An archive with a byte of every entry's two headers changed: where they are, see the ZIP format."""
    _write(path, _members())
    content = bytearray(path.read_bytes())
    for sign, offset in ((b"PK\x03\x04", local), (b"PK\x01\x02", central)):
        place = content.find(sign)
        while place >= 0:
            content[place + offset] = value
            place = content.find(sign, place + 4)
    path.write_bytes(content)


def _cut(path: Path) -> None:
    _write(path, _members())
    path.write_bytes(path.read_bytes()[:2000])


def _claiming(shape: tuple[int, ...]) -> Callable[[Path], None]:
    return lambda path: _write(path, {**_members(), "train_images": _header(shape) + b"\0" * 100})


ARCHIVES: dict[str, Callable[[Path], object]] = {
    "encrypted": lambda path: _patched(path, 6, 8, 1),
    "compressed_strangely": lambda path: _patched(path, 8, 10, 97),
    "no_array": lambda path: _write(path, {**_members(), "train_images": b"no array"}),
    "no_members": lambda path: _write(path, {"x": b"x"}),
    "claims_909_tib": _claiming((10**9, 1000, 1000)),
    "claims_16_gib": _claiming((2**28, 8, 8)),
    "pickled": _pickled,
    "cut_off": _cut,
}


def _huge(folder: Path) -> None:
    """An image of 400 million pixels by its header."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    (folder / "z.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


FOLDERS: dict[str, Callable[[Path], object]] = {
    "images": lambda folder: (folder / "d.png").mkdir(),  # a folder with the name of an image is none
    "images_dangling": lambda folder: (folder / "z.png").symlink_to("nowhere"),
    "images_circle": lambda folder: (folder / "z.png").symlink_to("z.png"),
    "images_pipe": lambda folder: os.mkfifo(folder / "z.png"),
    "images_huge": _huge,
    "images_line_break": lambda folder: (folder / "x\ny.png").write_text("no image"),
    "images_escape": lambda folder: (folder / "x\x1b[31my.png").write_text("no image"),
}
