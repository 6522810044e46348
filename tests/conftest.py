"""The tiny world: digits of 8x8 pixels, a handful of images, a few hundred parameters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY, Bench, digits_of

from privsweep.cli import at_once
from privsweep.cli import main as cli
from privsweep.dataset.npz_format import Arrays, validated, write
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.model.convnet import ConvNet

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """What a test draws from PyTorch's own stream does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="session")
def data() -> Data:
    return digits_of(train_size=60, test_size=20).load(Rng(0))


@pytest.fixture(scope="session")
def lenet() -> ConvNet:
    """DLG's LeNet, narrow."""
    return ConvNet(
        width=3, layers=[1, 1, 1], depth=3, kernel=5, pool_after=[1, 2], pooling="stride", norm="none", fc=[],
        padding="same", fc_width=None, activation="sigmoid", init="uniform", init_bound=0.5,
    )  # fmt: skip


Privsweep = Callable[..., int]


@pytest.fixture
def privsweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Privsweep:
    """The command, in this process: arguments in, exit code out. Results go below ``tmp_path``.

    Sweeps take turns in it unless ``at_once`` is among the arguments.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(at_once, "processors", lambda: 1)

    def call(*arguments: str, tiny: bool = True) -> int:
        given: Sequence[str] = [*arguments, *(a for a in TINY if tiny and a.partition("=")[0] not in _keys(arguments))]
        return cli.main(given)

    return call


def _keys(arguments: Sequence[str]) -> set[str]:
    return {a.partition("=")[0] for a in arguments}


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
    return lambda **sizes: validated(make_members(**sizes), "tiny")


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
        "canaries": 0,
        "superclasses": [],
        "resize": None,
        "channels": "same",
        "normalize": False,
    }
