"""The user's own images, one folder for each class."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from privsweep.dataset.base import Shaping
from privsweep.dataset.image_tree import Tree, decode, no_folder, outlined, scan, tree_checksum, tree_state
from privsweep.interface.component import component
from privsweep.interface.contents import DataFiles
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng


@component
class Folder(Shaping):
    """``path/train/CLASS/*`` and ``path/test/CLASS/*``, or ``path/CLASS/*`` split under a constant seed."""

    version: ClassVar[int] = 1  # photographs are turned as their EXIF tells
    path: Path
    test_fraction: Annotated[float, Field(gt=0, lt=1)]  # of every class; no effect where train/ and test/ are there

    def files(self) -> DataFiles:
        """All images below ``path``; raises UserError where they are not sorted into classes."""
        place, absent = str(self.path.absolute()), no_folder(self._what())
        if not self.path.is_dir():
            return DataFiles(self._what(), place, None, 0, absent)
        state, youngest = tree_state(self.path, self._scan())
        return DataFiles(self._what(), place, state, youngest, absent)

    def fingerprint(self) -> str:
        """A checksum of the images' names and bytes, wherever the folder lies. Reads every file."""
        return tree_checksum(self.path, self._scan())

    def load(self, rng: Rng) -> Data:
        """Raises UserError where a file is no image, or sizes or channels differ and none is asked for."""
        arrays = decode(self._scan(), self.resize, self.channels, self._what())
        return self.shape("folder", arrays, rng)

    def outline(self, rng: Rng) -> Data:
        """As ``load``, without the pixels: of the first image, which stands for all, no more than its shape."""
        return self.shape("folder", outlined(self._scan(), self.resize, self.channels, self._what()), rng)

    def _scan(self) -> Tree:
        return scan(self.path, self.test_fraction, self._what())

    def _what(self) -> str:
        return f"dataset.path={self.path}"
