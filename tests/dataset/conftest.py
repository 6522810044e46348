"""Small real files in the prepared format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from privsweep.dataset.arrays import Arrays, check, write

Members = dict[str, np.ndarray]


def make_members(train: int = 40, test: int = 12, classes: int = 4, size: tuple[int, ...] = (6, 6)) -> Members:
    """Random images, all of them different."""
    draw = np.random.default_rng(3)
    return {
        "train_images": draw.integers(0, 256, (train, *size), dtype=np.uint8),
        "train_labels": (np.arange(train, dtype=np.uint8) % classes)[:, None],
        "test_images": draw.integers(0, 256, (test, *size), dtype=np.uint8),
        "test_labels": (np.arange(test, dtype=np.uint8) % classes)[:, None],
    }


@pytest.fixture
def members() -> Callable[..., Members]:
    return make_members


@pytest.fixture
def arrays() -> Callable[..., Arrays]:
    return lambda **sizes: check(make_members(**sizes), "tiny")


@pytest.fixture
def npz(tmp_path: Path) -> Callable[..., Path]:
    """Writes members, the tiny ones by default, and returns the path."""

    def put(values: Members | None = None, name: str = "tiny") -> Path:
        path = tmp_path / f"{name}.npz"
        write(path, values or make_members())
        return path

    return put


@pytest.fixture
def plain() -> dict[str, object]:
    """The shared fields, at the values that change nothing."""
    return {
        "train_size": None,
        "test_size": None,
        "prior_size": 0,
        "resize": None,
        "channels": "same",
        "normalize": False,
    }
