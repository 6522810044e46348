"""Pieces of the tiny world that tests build by hand."""

from __future__ import annotations

import dataclasses
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import pytest
import torch

from privsweep.dataset.digits import Digits
from privsweep.exposure.client_update import Capture
from privsweep.fl_setting.central import Central
from privsweep.fl_setting.fedavg import FedAvg
from privsweep.interface.beside import Kinds
from privsweep.interface.data import Data, Tensors
from privsweep.interface.roles import Reduce
from privsweep.store.sealed_tensors import save_tensors, taken_tensors

TINY = (
    "dataset.train_size=60",
    "dataset.test_size=20",
    "model.width=3",
    "fl_setting.victims=2",
    "scale=smoke",
)

# What attacks need of model, setting and data.
FITTING = {
    "analytic": ["model=smlp"],
    "april": ["model=vit"],
    "generative_decoder": ["fl_setting=split", "model=lenet", "dataset.prior_size=20"],
    "imprint": ["model=smlp", "dataset.prior_size=20"],
    "likelihood_inversion": ["fl_setting=split", "model=lenet"],
    "rgap": ["model=lenet_dlg", "model.width=12", "model.init=default"],
    "property_inference": [
        "dataset.superclasses=[[0,1,2,3,4],[5,6,7,8,9]]", "dataset.train_size=400", "dataset.prior_size=200",
        "fl_setting.clients=1", "fl_setting.property_share=0.5",
    ],
    "prior_mean": ["fl_setting=split", "model=lenet", "dataset.prior_size=20"],
    "moment_inversion": ["fl_setting=collaborative_inference", "fl_setting.queries_kept=10", "model=lenet"],
    "shadow_inversion": ["fl_setting=collaborative_inference", "model=lenet"],
    "informed_reconstruction": [
        "fl_setting=release", "model=informed_mlp", "dataset.train_size=40", "dataset.prior_size=20",
        "attack.shadows=8", "attack.width=8",
    ],
    "informed_membership": [
        "fl_setting=release", "model=informed_mlp", "dataset.train_size=40", "fl_setting.without=1",
    ],
}  # fmt: skip


def digits_of(**changes: Any) -> Digits:
    """scikit-learn's, with what is not said at the value that changes nothing."""
    same = {"prior_size": 0, "canaries": 0, "superclasses": [], "resize": None, "channels": "same", "normalize": False}
    return Digits(**{**same, **changes})


def by_kind(data: Data) -> Data:
    """The same with a class that a superclass hides, for ``fl_setting.property_class``."""
    kinds = Kinds(data.train.labels, data.train.labels.repeat(3), superclass=(0,) * 5 + (1,) * 5)
    return dataclasses.replace(data, kinds=kinds)


# An experiment of two runs that take no time.
BLIND_TABLE = """\
# @package _global_
defaults:
  - override /attack: blind
table:
  title: A small table
  place: nowhere
  rows:
    mse: {label: MSE, metric: mse}
  columns:
    noise: {label: Noise, overrides: [attack.guess=noise]}
    grey: {label: Grey, overrides: [attack.guess=grey]}
  seeds: [0]
"""


def small_table(folder: Path, text: str) -> tuple[str, ...]:
    """Writes an experiment below ``folder``; what is typed there to run it."""
    (folder / "conf" / "experiment").mkdir(parents=True)
    (folder / "conf" / "experiment" / "small.yaml").write_text(text)
    return ("experiment=small", "--config-dir", "conf")


@dataclass
class Bench:
    """A bench without a screen; what it keeps goes through files, as it does in a run."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    ticks: list[tuple[int, int]] = field(default_factory=list)
    keeps: bool = False  # states of a training, each time it is asked to
    store: dict[str, Path] = field(default_factory=dict)
    folder: Path = field(default_factory=lambda: Path(mkdtemp()))

    def __post_init__(self) -> None:
        weakref.finalize(self, rmtree, self.folder)

    def chunks(self, purpose: str, key: str, n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        parts = [make(slice(i, min(i + size, n))) for i in range(0, n, size)]
        return {name: torch.cat([p[name] for p in parts]) for name in parts[0]}

    def stream(
        self,
        purpose: str,
        key: str,
        n: int,
        size: int,
        make: Callable[[slice], Tensors],
        reduce: Reduce,
        start: Tensors,
    ) -> Tensors:
        for i in range(0, n, size):
            start = reduce(start, make(slice(i, min(i + size, n))))
        return start

    def rows(self, key: Mapping[str, Any], n: int, size: int, make: Callable[[slice], Tensors]) -> Tensors:
        return self.chunks("rows", "", n, size, make)

    def keep(self, purpose: str, state: Callable[[], tuple[Tensors, Mapping[str, Any]]]) -> None:
        if self.keeps:
            tensors, notes = state()
            self.store[purpose] = self.folder / purpose
            save_tensors(self.store[purpose], tensors, {}, **notes)

    def kept(self, purpose: str) -> tuple[Tensors, Mapping[str, Any]] | None:
        return taken_tensors(self.store[purpose], self.device, {}) if purpose in self.store else None

    def tick(self, done: int, total: int, **numbers: float) -> None:
        self.ticks.append((done, total))


def capture(**changes: Any) -> Capture:
    values = {"round": 0, "client": 0, "step": 0, "what": "gradient", "batch_size": 1, "mode": "train"}
    return Capture(**{**values, **changes})


TRAINED = {
    "momentum": 0.0, "batch_size": 8, "checkpoints": [], "evaluate_every": 1, "victims": 3, "victim_choice": "random",
    "victim_seed": None, "labels_known": False, "position": "server", "released": "last", "candidates": None,
}  # fmt: skip
ASKED = {**TRAINED, "property_class": 0, "property_share": 0.0}


def fedavg(**changes: Any) -> FedAvg:
    values = {
        **ASKED, "clients": 3, "rounds": 2, "participation": 1.0, "partition": "iid", "dirichlet_alpha": 0.5,
        "local_epochs": 2, "local_steps": None, "optimizer": "adam", "lr": 0.01, "parallel": "sequential",
        "capture": capture(),
    }  # fmt: skip
    return FedAvg(**{**values, **changes})


def central(**changes: Any) -> Central:
    return Central(**{**ASKED, "epochs": 2, "optimizer": "adam", "lr": 0.01, "capture": capture(), **changes})


def real_data(name: str) -> str:
    """The folder with real datasets; skips, visibly, where there is none."""
    folder = os.environ.get("PRIVSWEEP_DATA", "")
    if not (folder and (Path(folder) / f"{name}.npz").is_file()):
        pytest.skip(f"real {name} not at hand: set PRIVSWEEP_DATA to a folder with {name}.npz")
    return folder
