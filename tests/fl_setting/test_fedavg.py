from dataclasses import replace

import pytest
import torch
from tiny import Bench, capture, central, fedavg
from torch.nn.functional import cross_entropy

from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.stack import Stack
from privsweep.fl_setting.fedavg import FedAvg
from privsweep.fl_setting.fedsgd import FedSGD
from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.model.convnet import ConvNet


def trained(setting: object, data: Data, lenet: ConvNet, defense: Stack | None = None) -> System:
    return setting.train(data, lenet, defense or Stack({}), Rng(0), Bench())  # type: ignore[attr-defined]


def close(a: System, b: System, atol: float = 1e-6) -> bool:
    return all(torch.allclose(w, b.snapshots[b.last][n], atol=atol) for n, w in a.snapshots[a.last].items())


def test_the_average_is_weighted_by_examples(data: Data, lenet: ConvNet) -> None:
    """A full-batch SGD step on unequal clients is the step on all data together, as McMahan's weights make it."""
    setting = fedavg(partition="dirichlet", optimizer="sgd", lr=0.1, rounds=1, local_epochs=1, batch_size=60)
    sizes = [len(s) for s in setting.shards(data, Rng(0))]
    assert len(set(sizes)) > 1
    net = setting.network(data, lenet, Stack({}), Rng(0))
    loss = cross_entropy(net(data.domain.inputs(data.train.pixels())), data.train.labels)
    grads = torch.autograd.grad(loss, list(net.parameters()))
    after = trained(setting, data, lenet).snapshots[1]
    for (name, w), g in zip(net.named_parameters(), grads, strict=True):
        assert torch.allclose(after[name], w - 0.1 * g, atol=1e-6)


def test_stacked_and_sequential_federations_agree(data: Data, lenet: ConvNet) -> None:
    common = {"partition": "dirichlet", "participation": 0.7, "clients": 4}
    assert close(
        trained(fedavg(**common), data, lenet), trained(fedavg(parallel="stacked", **common), data, lenet), atol=1e-4
    )


def federated_sgd(like: FedAvg) -> FedSGD:
    return FedSGD(**{k: v for k, v in vars(like).items() if k not in ("local_epochs", "local_steps", "parallel")})


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("partition", ["iid", "dirichlet"])
def test_one_full_local_sgd_step_is_federated_sgd(norm: str, partition: str, data: Data, lenet: ConvNet) -> None:
    """Running statistics of batch normalisation too."""
    model = replace(lenet, norm=norm)
    averaged = fedavg(optimizer="sgd", lr=0.1, local_epochs=1, batch_size=60, rounds=3, partition=partition)
    assert close(trained(averaged, data, model), trained(federated_sgd(averaged), data, model), atol=1e-5)


def test_what_federated_sgd_stored_before_is_not_found_where_statistics_may_differ(lenet: ConvNet) -> None:
    normalised = replace(lenet, norm="batch")
    assert federated_sgd(fedavg()).version_with(normalised) == 1
    assert federated_sgd(fedavg()).version_with(lenet) == fedavg().version_with(normalised) == 0
    for changes in ({"rounds": 0}, {"clients": 1}, {"clients": 4, "participation": 0.25}):
        assert federated_sgd(fedavg(**changes)).version_with(normalised) == 0


def test_central_training_keeps_its_optimiser_and_learns(data: Data, lenet: ConvNet) -> None:
    system = trained(central(lr=0.03, checkpoints=[1], epochs=30), data, lenet)
    assert sorted(system.snapshots) == [0, 1, 30]
    assert system.utility["train_accuracy"] > 0.9


def test_training_learns_and_keeps_the_rounds_asked_for(data: Data, lenet: ConvNet) -> None:
    system = trained(fedavg(rounds=4, local_epochs=15, lr=0.05, checkpoints=[2]), data, lenet)
    assert sorted(system.snapshots) == [0, 2, 4]
    assert system.utility["train_accuracy"] > 0.8
    assert [row["round"] for row in system.curve] == [1, 2, 3, 4]


@pytest.mark.parametrize(("every", "measured"), [(1, [1, 2, 3, 4, 5]), (2, [2, 3, 4, 5]), (None, [3, 5])])
def test_accuracy_is_measured_when_it_is_asked_for(
    every: int | None, measured: list[int], data: Data, lenet: ConvNet
) -> None:
    """And after the last round, and where weights are kept; what is trained does not depend on it."""
    system = trained(fedavg(rounds=5, checkpoints=[3], evaluate_every=every), data, lenet)
    assert [row["round"] for row in system.curve if "test_accuracy" in row] == measured
    assert all("loss" in row for row in system.curve)
    assert system.utility["test_accuracy"] == system.curve[-1]["test_accuracy"]
    assert close(system, trained(fedavg(rounds=5, checkpoints=[3]), data, lenet), atol=0)


def test_training_does_not_depend_on_what_is_exposed(data: Data, lenet: ConvNet) -> None:
    plain = trained(fedavg(), data, lenet)
    for changes in ({"victims": 7}, {"position": "client"}, {"capture": capture(client=2, batch_size=3)}):
        other = trained(fedavg(**changes), data, lenet)
        assert all(torch.equal(w, other.snapshots[2][n]) for n, w in plain.snapshots[2].items())


def test_noise_of_strength_zero_is_no_defence_and_noise_costs_utility(data: Data, lenet: ConvNet) -> None:
    def noisy(sigma: float) -> System:
        defense = Stack({"noisy_gradients": NoisyGradients(sigma=sigma, distribution="laplace")})
        return trained(fedavg(rounds=3, local_epochs=15, lr=0.05), data, lenet, defense)

    plain = trained(fedavg(rounds=3, local_epochs=15, lr=0.05), data, lenet)
    assert close(plain, noisy(0.0), atol=0)
    assert noisy(1.0).utility["train_accuracy"] < plain.utility["train_accuracy"]


def test_clients_are_drawn_by_round() -> None:
    setting = fedavg(clients=10, participation=0.3)
    drawn = [setting.sampled(r, Rng(0)) for r in range(20)]
    assert all(len(d) == 3 for d in drawn)
    assert len({c for d in drawn for c in d}) == 10
    assert fedavg(clients=10, participation=0.01).sampled(0, Rng(0))
