"""The handwritten digits that ship with scikit-learn: real images without a download."""

from __future__ import annotations

import zlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from privsweep.dataset.base import Shaping
from privsweep.dataset.npz_format import Arrays, Members, checksum, held_out, validated
from privsweep.interface.component import component
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng

TEST_FRACTION = 0.2


@component
class Digits(Shaping):
    """1,797 digits of 8x8 pixels (Alpaydin and Kaynak, 1998): 1,438 train and 359 test, under every seed."""

    def fingerprint(self) -> str:
        """A checksum of the arrays."""
        return checksum((name, zlib.crc32(a.tobytes())) for name, a in _members().items())

    def load(self, rng: Rng) -> Data:
        """Raises UserError where more images are asked for than there are."""
        return self.shape("digits", digits(), rng)


@cache  # a run asks three times for what is parsed from text
def _members() -> Members:
    found = find_spec("sklearn")  # its file is read, for importing it takes a second
    assert found is not None
    assert found.origin is not None
    published = np.loadtxt(Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz", delimiter=",")
    images = np.rint(published[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # published as 0 to 16
    labels = published[:, -1].astype(np.int64)
    test = held_out(len(images), TEST_FRACTION, "digits")
    return {
        "train_images": images[~test],
        "train_labels": labels[~test],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def digits() -> Arrays:
    """All images, split."""
    return validated({name: array.copy() for name, array in _members().items()}, "dataset=digits")
