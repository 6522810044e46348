"""A defence that trains several networks, killed after the first of them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.interface.data import Data, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, replica
from privsweep.run.workbench import Workbench
from privsweep.store.store import Store
from privsweep.training.central import train_centrally
from privsweep.training.log import Log


class Mean(Defense):
    """The mean of three networks, trained apart."""

    def fit(
        self, fit: Callable[[Training], Tensors], training: Training, fresh: Callable[[Rng], nn.Module], rng: Rng
    ) -> Tensors:
        several = replace(
            training,
            start=alike(replica(training.start, 0), 3),
            data=replace(training.data, index=[training.data.index[0]] * 3),
            rngs=[rng.child(k) for k in range(3)],
        )
        return {name: w.mean(0, keepdim=True) for name, w in fit(several).items()}


def trained(data: Data, folder: Path, killed_at: int | None) -> tuple[dict[str, Tensor], int]:
    """The weights it ends with, and how many steps that took; None of them in a process that is killed."""
    steps = 0

    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        if steps == killed_at:
            raise KeyboardInterrupt
        return cross_entropy(outputs, targets)

    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    log = Log(data, net, 2, [], Workbench(torch.device("cpu"), Store(folder), "abc"), 1)
    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.0), 2, None, 20)
    train_centrally([net], lambda rng: net, data, loss, schedule, [Mean()], [Rng(0)], [log], parallel="sequential")
    return dict(log.snapshots[2]), steps


def test_networks_that_were_finished_before_a_kill_are_not_trained_again(tmp_path: Path, data: Data) -> None:
    whole, steps = trained(data, tmp_path / "whole", None)
    with pytest.raises(KeyboardInterrupt):
        trained(data, tmp_path / "killed", steps // 3 + 2)
    again, left = trained(data, tmp_path / "killed", None)
    assert left == steps - steps // 3
    assert all(torch.equal(w, again[name]) for name, w in whole.items())
