from __future__ import annotations

import numpy as np
import torch
from sklearn.datasets import load_digits

from privsweep.dataset.digits import Digits
from privsweep.interface.randomness import Rng


def test_every_digit_is_there_once_on_the_full_scale(plain):
    data = Digits(**plain).load(Rng(0))
    assert data.domain.shape == (1, 8, 8)
    assert data.domain.classes == 10
    assert (len(data.train), len(data.test)) == (1438, 359)
    got = np.concatenate([data.train.images, data.test.images])[:, 0]
    assert (got.min(), got.max()) == (0, 255)
    published = np.rint(load_digits().images / 16 * 255)
    assert sorted(map(bytes, got.astype(np.uint8))) == sorted(map(bytes, published.astype(np.uint8)))
    assert torch.cat([data.train.labels, data.test.labels]).bincount().tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180
    ]  # fmt: skip


def test_test_images_are_the_same_under_every_seed(plain):
    digits = Digits(**plain)
    assert torch.equal(digits.load(Rng(0)).test.images, digits.load(Rng(7)).test.images)
    assert digits.fingerprint() == digits.fingerprint()
    assert digits.fingerprint() == Digits(**{**plain, "train_size": 3}).fingerprint(), "of the contents alone"


def test_who_changes_the_images_changes_them_for_nobody_else(plain):
    mine, kept = Digits(**plain).load(Rng(0)), Digits(**plain).load(Rng(0))
    mine.train.images.zero_()
    mine.train.labels.zero_()
    again = Digits(**plain).load(Rng(0))
    assert torch.equal(again.train.images, kept.train.images)
    assert torch.equal(again.train.labels, kept.train.labels)
