"""The handwritten digits that ship with scikit-learn: real images without a download."""

from __future__ import annotations

import zlib

import numpy as np

from privsweep.dataset.base import Shaping
from privsweep.dataset.npz_format import Arrays, checksum, held_out, validated
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


def _members() -> dict[str, np.ndarray]:
    from sklearn.datasets import load_digits  # takes a second to import: only for those who want it

    published = load_digits()
    images = np.rint(published.images * (255 / 16)).astype(np.uint8)  # published as 0 to 16
    labels = published.target
    test = held_out(len(images), TEST_FRACTION, "digits")
    return {
        "train_images": images[~test],
        "train_labels": labels[~test],
        "test_images": images[test],
        "test_labels": labels[test],
    }


def digits() -> Arrays:
    """All images, split."""
    return validated(_members(), "dataset=digits")
