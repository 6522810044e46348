"""The tiny world: digits of 8x8 pixels, a handful of images, a few hundred parameters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from tiny import TINY, Bench

from privsweep import cli
from privsweep.dataset.digits import Digits
from privsweep.game import Data
from privsweep.model.convnet import ConvNet
from privsweep.randomness import Rng

torch.set_num_threads(1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.fixture(scope="session")
def data() -> Data:
    return Digits(train_size=60, test_size=20, prior_size=0, resize=None, channels="same", normalize=False).load(Rng(0))


@pytest.fixture(scope="session")
def lenet() -> ConvNet:
    """DLG's LeNet, narrow."""
    return ConvNet(
        width=3, layers=[1, 1, 1], depth=3, kernel=5, pool_after=[1, 2], pooling="stride", norm="none", fc=[],
        fc_width=None, activation="sigmoid", init="uniform", init_bound=0.5,
    )  # fmt: skip


Privsweep = Callable[..., int]


@pytest.fixture
def privsweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Privsweep:
    """The command, in this process: arguments in, exit code out. Results go below ``tmp_path``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, tiny: bool = True) -> int:
        given: Sequence[str] = [*arguments, *(a for a in TINY if tiny and a.partition("=")[0] not in _keys(arguments))]
        monkeypatch.setattr(sys, "argv", ["privsweep", *given])
        GlobalHydra.instance().clear()
        cli._outcome.clear()
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        finally:
            GlobalHydra.instance().clear()
        return 0

    return call


def _keys(arguments: Sequence[str]) -> set[str]:
    return {a.partition("=")[0] for a in arguments}
