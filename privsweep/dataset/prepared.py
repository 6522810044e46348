"""Datasets that come as one prepared file: the published ones, and the user's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from privsweep.dataset.base import Shaping
from privsweep.dataset.download import absent, prepared
from privsweep.dataset.npz_format import Arrays, npz_checksum, npz_files, read
from privsweep.dataset.sources import PUBLISHED
from privsweep.interface.component import component
from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Data
from privsweep.interface.errors import AbsentError
from privsweep.interface.folders import check_folder
from privsweep.interface.randomness import Rng


@component
class Prepared(Shaping):
    """``data_dir/name.npz``; a published dataset is downloaded when its file is missing."""

    name: Annotated[str, Field(pattern=r"^\w[\w.-]*$", max_length=100)]  # of a file in data_dir
    data_dir: Path

    def files(self) -> DataFiles:
        """The one file, there or not; raises UserError where ``data_dir`` can hold none."""
        check_folder("data_dir", self.data_dir)
        path = self.data_dir / f"{self.name}.npz"
        return npz_files(f"dataset={self.name}", path, absent(self.name, self.data_dir))

    def fingerprint(self) -> str:
        """A checksum of the file's contents; raises UserError where there is no file and none can be had."""
        path = prepared(self.name, self.data_dir)
        return npz_checksum(path, f"dataset={self.name}: {path}")

    def load(self, rng: Rng) -> Data:
        """Raises UserError where the file is missing or malformed, or has too few images."""
        return self._of(self.arrays(), rng)

    def outline(self, rng: Rng) -> Data:
        """As ``load``, without the pixels."""
        return self._of(self.arrays(pixels=False), rng)

    def _of(self, arrays: Arrays, rng: Rng) -> Data:
        data, there = self.shape(self.name, arrays, rng), len(arrays.train_images) + len(arrays.test_images)
        published = PUBLISHED.get(self.name, there)
        return replace(data, subset=(there, published)) if there < published else data

    def arrays(self, pixels: bool = True) -> Arrays:
        """What the file holds, as it was published; raises UserError where it is missing or malformed."""
        path = prepared(self.name, self.data_dir)
        return read(path, f"dataset={self.name}: {path}", pixels)


@component
class Npz(Shaping):
    """The user's own file in the prepared format (see ``privsweep.dataset.npz_format``)."""

    path: Path

    def files(self) -> DataFiles:
        """The one file, there or not."""
        return npz_files(self._what(), self.path, self._absent())

    def fingerprint(self) -> str:
        """A checksum of the file's contents, wherever it lies."""
        return npz_checksum(self._there(), self._what())

    def load(self, rng: Rng) -> Data:
        """Raises UserError where the file is missing or malformed, or has too few images."""
        return self.shape("npz", read(self._there(), self._what()), rng)

    def outline(self, rng: Rng) -> Data:
        """As ``load``, without the pixels."""
        return self.shape("npz", read(self._there(), self._what(), pixels=False), rng)

    def _what(self) -> str:
        return f"dataset.path={self.path}"

    def _absent(self) -> str:
        return f"{self._what()}: no such file; set dataset.path to an .npz with train_images and so on"

    def _there(self) -> Path:
        if not self.path.is_file():
            raise AbsentError(self._absent())
        return self.path
