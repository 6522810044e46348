"""The real files, where PRIVSWEEP_DATA names a folder with them."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from privsweep.dataset.prepared import Prepared
from privsweep.interface.randomness import Rng

FOLDER = os.environ.get("PRIVSWEEP_DATA")
WANTED = {
    "mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "fashion_mnist": ((1, 28, 28), 10, 60_000, 10_000),
    "emnist": ((1, 28, 28), 26, 124_800, 20_800),
    "cifar10": ((3, 32, 32), 10, 50_000, 10_000),
    "cifar100": ((3, 32, 32), 100, 50_000, 10_000),
    "pneumoniamnist": ((1, 28, 28), 2, 4_708, 624),
    "dermamnist": ((3, 28, 28), 7, 7_007, 2_005),
    "pathmnist": ((3, 28, 28), 9, 89_996, 7_180),
    "chestmnist": ((1, 28, 28), 14, 78_468, 22_433),
    "medical_mnist": ((1, 64, 64), 6, None, None),
    "celeba_hq": ((3, 64, 64), 2_398, None, None),
}
PUBLISHED = {"mnist": ((0.1307,), (0.3081,)), "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))}


@pytest.mark.skipif(FOLDER is None, reason="set PRIVSWEEP_DATA to a folder of prepared datasets")
@pytest.mark.parametrize("name", WANTED)
def test_a_real_file_is_what_its_publisher_says(name, plain):
    assert FOLDER is not None
    if not (Path(FOLDER) / f"{name}.npz").exists():
        pytest.skip(f"no {name}.npz in PRIVSWEEP_DATA")
    dataset = Prepared(name=name, data_dir=FOLDER, **{**plain, "normalize": True})
    shape, classes, train, test = WANTED[name]
    start = time.perf_counter()
    dataset.fingerprint()
    assert time.perf_counter() - start < 0.5
    data = dataset.load(Rng(0))
    assert (data.domain.shape, data.domain.classes) == (shape, classes)
    assert data.multilabel == (name == "chestmnist")
    assert train is None or (len(data.train), len(data.test)) == (train, test)
    if name in PUBLISHED:
        mean, std = PUBLISHED[name]
        assert data.domain.mean == pytest.approx(mean, abs=1e-4)
        assert data.domain.std == pytest.approx(std, abs=1e-4)
