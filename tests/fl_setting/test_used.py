"""Which examples a training has used: the others can be anything, and none of these."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny import ASKED, TRAINED, Bench, capture, central, fedavg
from torch import Tensor

from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.exposure.activations import ActivationCapture
from privsweep.fl_setting.fedsgd import FedSGD
from privsweep.fl_setting.split import SplitFed
from privsweep.interface.data import Data, ImageSet
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.model.convnet import ConvNet

CLIENTS: dict[str, Any] = {"partition": "iid", "dirichlet_alpha": 0.5, "optimizer": "adam", "lr": 0.01}


def fedsgd(**changes: Any) -> FedSGD:
    values = {"clients": 3, "rounds": 2, "participation": 1.0, "capture": capture()}
    return FedSGD(**{**ASKED, **CLIENTS, **values, **changes})


def split(**changes: Any) -> SplitFed:
    where = ActivationCapture(round="last", client=0, batch_size=1, mode="eval")
    values = {
        "clients": 3, "rounds": 1, "participation": 1.0, "local_epochs": 1, "local_steps": None, "capture": where,
        "cut": "act2", "reveals": "each",
    }  # fmt: skip
    return SplitFed(**{**TRAINED, **CLIENTS, **values, **changes})


POISSON = DpSgd(max_grad_norm=1.0, epsilon=None, noise_multiplier=0.1, delta=None, accountant="rdp", poisson=True)
LOSSY = SecureAggregation(fraction_bits=24, bits=48, dropout=0.5, threshold=2)
SOME: dict[str, tuple[Any, Stack]] = {
    "clients": (fedavg(clients=10, participation=0.2, rounds=2), Stack({})),
    "local steps": (fedavg(local_steps=1), Stack({})),
    "fedsgd": (fedsgd(), Stack({})),
    "fedsgd, drawn batches": (fedsgd(rounds=1), Stack({"dp_sgd": POISSON})),
    "drawn batches": (central(epochs=1), Stack({"dp_sgd": POISSON})),
    "clients' drawn batches": (fedavg(rounds=1, local_epochs=1), Stack({"dp_sgd": POISSON})),
    "lost messages": (fedavg(clients=4, rounds=1, local_epochs=1), Stack({"secure_aggregation": LOSSY})),
    "split": (split(clients=6, participation=0.3), Stack({})),
}
ALL: dict[str, tuple[Any, Stack]] = {
    "central": (central(epochs=1), Stack({})),
    "fedavg": (fedavg(rounds=1, local_epochs=1), Stack({})),
    "split, lost messages": (split(clients=4), Stack({"secure_aggregation": LOSSY})),
    "many drawn batches": (central(epochs=30), Stack({"dp_sgd": POISSON})),
}


def trained(setting: Any, data: Data, lenet: ConvNet, defense: Stack) -> System:
    made: System = setting.train(data, lenet, defense.bind(setting.schedule(data, Rng(0))), Rng(0), Bench())
    return made


def spoilt(data: Data, which: Tensor) -> Data:
    """Other images at these positions."""
    images = data.train.images.clone()
    images[which] = images.amax() - images[which]
    return replace(data, train=ImageSet(images, data.train.labels))


def same(one: System, other: System) -> bool:
    return all(torch.equal(w, other.snapshots[other.last][n]) for n, w in one.snapshots[one.last].items())


@pytest.mark.parametrize("name", SOME)
def test_the_weights_know_of_what_was_used_and_of_nothing_else(name: str, data: Data, lenet: ConvNet) -> None:
    setting, defense = SOME[name]
    used = setting.used(data, defense, Rng(0), setting.length())
    others = torch.tensor([n for n in range(len(data.train)) if n not in set(used.tolist())])
    assert 0 < len(used) < len(data.train)
    assert used.tolist() == sorted(used.tolist())
    assert not setting.uses_all(defense, setting.length())
    plain = trained(setting, data, lenet, defense)
    assert same(plain, trained(setting, spoilt(data, others), lenet, defense))
    for one in used[:: max(1, len(used) // 4)]:
        assert not same(plain, trained(setting, spoilt(data, one[None]), lenet, defense))


def test_the_statistics_of_lost_messages_are_lost(data: Data, lenet: ConvNet) -> None:
    """Those of batch normalisation, with a server that is sent a gradient by each client, and loses half of them."""
    setting, defense, normalised = (
        fedsgd(clients=4, rounds=1),
        Stack({"secure_aggregation": LOSSY}),
        replace(lenet, norm="batch"),
    )
    used = setting.used(data, defense, Rng(0), 1)
    others = torch.ones(len(data.train), dtype=torch.bool).index_fill(0, used, False).nonzero().flatten()
    plain = trained(setting, data, normalised, defense)
    assert same(plain, trained(setting, spoilt(data, others), normalised, defense))
    assert not same(plain, trained(setting, spoilt(data, used[:1]), normalised, defense))


@pytest.mark.parametrize("name", ALL)
def test_as_a_rule_all_is_used(name: str, data: Data) -> None:
    setting, defense = ALL[name]
    assert setting.used(data, defense, Rng(0), setting.length()).tolist() == list(range(len(data.train)))


def test_it_is_known_beforehand_where_all_is_used_whatever_is_drawn() -> None:
    none = Stack({})
    assert fedavg().uses_all(none, 1)
    assert not fedavg().uses_all(none, 0)
    assert not fedavg(clients=10, participation=0.9).uses_all(none, 100)
    assert not fedsgd().uses_all(none, 100)
    assert not fedavg(local_steps=100).uses_all(none, 2)
    assert central(epochs=30).uses_all(Stack({"dp_sgd": POISSON}), 30)
    assert not central(epochs=30).uses_all(Stack({"dp_sgd": POISSON}), 3)
