from dataclasses import replace
from math import prod
from typing import Any

import pytest
import torch
from tiny import Bench, capture, fedavg
from torch import nn
from torch.nn.functional import cross_entropy

from privsweep.defense.central_dp import CentralDp
from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.defense.stack import Stack
from privsweep.interface.data import Architecture, Data, Domain
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import Exposure, Update
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.resnet import ResNet


def exposed(data: Data, lenet: Architecture, defense: Stack | None = None, **changes: object) -> Exposure:
    setting = fedavg(**changes)
    stack = defense or Stack({})
    system = setting.train(data, lenet, stack, Rng(0), Bench())
    return setting.views()[0].expose(system, data, lenet, stack, Rng(0))


def test_a_captured_gradient_is_that_of_the_victims_batch(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, capture=capture(batch_size=2, round="last"))
    net = lenet.build(data.domain, Rng(0))
    net.load_state_dict(dict(out.seen.weights))
    for victim in range(3):
        x = data.domain.inputs(out.truth.pixels[victim])
        grads = torch.autograd.grad(cross_entropy(net(x), out.truth.labels[victim]), list(net.parameters()))
        for (name, _), g in zip(net.named_parameters(), grads, strict=True):
            assert torch.allclose(out.seen.delta[name][victim], g, atol=1e-7)


def test_the_truth_shares_no_storage_with_what_is_seen(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet)
    truth = {t.untyped_storage().data_ptr() for t in (out.truth.pixels, out.truth.labels, out.truth.index)}
    seen = [*out.seen.weights.values(), *out.seen.delta.values()]
    assert not truth & {t.untyped_storage().data_ptr() for t in seen}


def test_victims_are_images_of_the_client_and_no_image_is_attacked_twice(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, victims=4, capture=capture(client=1, batch_size=2))
    shard = fedavg().shards(data, Rng(0))[1]
    index = out.truth.index.flatten()
    assert len(index.unique()) == 8
    assert torch.isin(index, shard).all()
    more = exposed(data, lenet, victims=6, capture=capture(client=1, batch_size=2))
    assert torch.equal(more.truth.index[:4], out.truth.index)


def test_one_sgd_step_as_a_weight_difference_is_the_scaled_gradient(data: Data, lenet: ConvNet) -> None:
    common = {"optimizer": "sgd", "lr": 0.5, "local_epochs": 1, "rounds": 0}
    gradient = exposed(data, lenet, capture=capture(batch_size=2), **common)
    difference = exposed(data, lenet, capture=capture(batch_size=2, what="difference"), **common)
    assert difference.known.recipe.steps == 1
    for name, g in gradient.seen.delta.items():
        assert torch.allclose(difference.seen.delta[name], -0.5 * g, atol=1e-6)


def test_a_difference_in_a_mode_that_nobody_trains_in_is_refused(data: Data, lenet: ConvNet) -> None:
    normalised = replace(lenet, norm="batch")
    difference, gradient = (
        fedavg(capture=capture(batch_size=2, what=what, mode="eval")).views()[0] for what in ("difference", "gradient")
    )
    with pytest.raises(UserError, match=r"capture\.mode=eval"):
        difference.check(data, normalised, Stack({}), Rng(0))
    difference.check(data, lenet, Stack({}), Rng(0))  # normalises nothing
    gradient.check(data, normalised, Stack({}), Rng(0))


def test_images_that_no_local_step_uses_are_not_behind_a_difference(data: Data, lenet: ConvNet) -> None:
    """Two steps in batches of three use six images of seven."""

    def view(size: int, **changes: Any) -> Any:
        local = {"batch_size": 3, "local_steps": 2, "victims": 1, "rounds": 0}
        return fedavg(**local | {"capture": capture(batch_size=size, what="difference")} | changes).views()[0]

    with pytest.raises(UserError, match=r"local_steps=2: of 7 .* 1 would .*capture\.batch_size=6 .*local_steps=3"):
        view(7).check(data, lenet, Stack({}), Rng(0))
    view(6).check(data, lenet, Stack({}), Rng(0))
    view(7, local_steps=None, local_epochs=1).check(data, lenet, Stack({}), Rng(0))
    view(7, capture=capture(batch_size=7)).check(data, lenet, Stack({}), Rng(0))


def test_with_two_clients_the_other_client_gets_what_the_server_gets(data: Data, lenet: ConvNet) -> None:
    server = exposed(data, lenet, clients=2, rounds=0)
    client = exposed(data, lenet, clients=2, rounds=0, position="client")
    assert client.seen.contributors == 1
    assert torch.equal(client.truth.index, server.truth.index)
    for name, g in server.seen.delta.items():
        assert torch.allclose(client.seen.delta[name], g, atol=1e-6)


def test_with_more_clients_the_listener_gets_the_mean_of_the_others(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, clients=4, rounds=0, position="client", victims=2)
    assert (out.seen.contributors, out.seen.examples) == (3, 3)
    net = lenet.build(data.domain, Rng(0))
    net.load_state_dict(dict(out.seen.weights))
    x, y = data.domain.inputs(out.truth.pixels[0]), out.truth.labels[0]
    grads = torch.autograd.grad(cross_entropy(net(x), y), list(net.parameters()))
    for (name, _), g in zip(net.named_parameters(), grads, strict=True):
        assert torch.allclose(out.seen.delta[name][0], g, atol=1e-6)


@pytest.mark.parametrize(("participation", "behind"), [(1.0, 3), (0.75, 2), (0.5, 1), (0.1, 1)])
def test_a_listener_hears_those_that_take_part_in_the_round(
    data: Data, lenet: ConvNet, participation: float, behind: int
) -> None:
    setting = {"clients": 4, "rounds": 0, "victims": 2, "capture": capture(client=1)}
    out = exposed(data, lenet, **setting, position="client", participation=participation)
    assert (out.seen.contributors, out.seen.examples, out.truth.index.shape) == (behind, behind, (2, behind))
    if behind == 1:
        server = exposed(data, lenet, **setting)
        assert torch.equal(out.truth.index, server.truth.index)
        for name, g in server.seen.delta.items():
            assert torch.allclose(out.seen.delta[name], g, atol=1e-6)


def test_a_listeners_share_of_the_clients_changes_no_other_results_version() -> None:
    def version(**changes: object) -> int:
        return fedavg(**changes).views()[0].version

    assert version(position="client", participation=0.5) == 1
    assert version(position="client") == version(participation=0.5) == version() == 0


def test_a_later_step_is_captured_at_the_clients_local_weights(data: Data, lenet: ConvNet) -> None:
    """One client that takes three steps in the round ends where a capture after three steps begins."""
    one = {"clients": 1, "rounds": 1, "local_steps": 3, "checkpoints": []}
    after = exposed(data, lenet, capture=capture(round="last"), **one)
    during = exposed(data, lenet, capture=capture(round=0, step=3), **one)
    for name, w in after.seen.weights.items():
        assert torch.allclose(during.seen.weights[name], w, atol=1e-6)


class Scaled(nn.Module):
    """Logits times a factor that is one number, learnt like all else."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.flatten, self.output = nn.Flatten(), nn.Linear(features, classes)
        self.scale = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.scale * self.output(self.flatten(x))
        return logits


class Temperature:
    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        with seeded(rng):
            return Scaled(prod(domain.shape), domain.classes)


@pytest.mark.parametrize("name", ["", "dp_sgd", "central_dp"])
def test_a_parameter_may_be_a_single_number(name: str, data: Data) -> None:
    """It is clipped and measured with the rest."""
    common: dict[str, Any] = {"epsilon": None, "noise_multiplier": 0.0, "delta": 1e-3, "accountant": "rdp"}
    clipping = {
        "dp_sgd": DpSgd(max_grad_norm=0.1, poisson=True, **common),
        "central_dp": CentralDp(max_update_norm=0.1, amplification=False, **common),
    }
    out = exposed(data, Temperature(), Stack({name: clipping[name]} if name else {}))
    assert isinstance(out.seen, Update)
    assert out.seen.delta["scale"].shape == (3,)
    squares = torch.stack([d.reshape(3, -1).square().sum(1) for d in out.seen.delta.values()]).sum(0)
    assert out.measures["update_norm"] == pytest.approx(squares.sqrt().tolist(), rel=1e-5)
    assert bool((squares.sqrt() < 0.1001).all()) == bool(name)


def test_noise_reaches_the_captured_gradient_and_zero_noise_does_not(data: Data, lenet: ConvNet) -> None:
    plain = exposed(data, lenet, rounds=0)
    for sigma, same in [(0.0, True), (0.1, False)]:
        defense = Stack({"noisy_gradients": NoisyGradients(sigma=sigma, distribution="gaussian")})
        noisy = exposed(data, lenet, defense, rounds=0)
        for name, g in plain.seen.delta.items():
            assert torch.equal(noisy.seen.delta[name], g) is same


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"victims": 30}, "fl_setting.victims=30"),
        ({"capture": capture(client=3)}, "fl_setting.capture.client=3"),
        ({"clients": 1, "position": "client"}, "fl_setting.clients=2"),
        ({"capture": capture(round=1)}, "fl_setting.checkpoints"),
        ({"clients": 61}, "fl_setting.clients=61"),
        ({"checkpoints": [9]}, r"fl_setting.checkpoints=\[9\]"),
        ({"capture": capture(step=2, what="difference")}, "fl_setting.capture.step=2: a difference"),
        ({"capture": capture(step=2), "position": "client"}, "fl_setting.capture.step=2: .* the 3 clients"),
    ],
)
def test_what_cannot_be_captured_is_refused(data: Data, lenet: ConvNet, changes: dict, names: str) -> None:
    setting = fedavg(**changes)

    def check() -> None:
        for part in (setting, setting.views()[0]):
            part.check(data, lenet, Stack({}), Rng(0))

    with pytest.raises(UserError, match=names):
        check()


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"capture": capture(what="difference", batch_size=9)}, "fl_setting.capture.batch_size=9: 9 images"),
        ({"batch_size": 1, "capture": capture(what="difference", batch_size=2)}, "fl_setting.capture.batch_size=2"),
        ({"clients": 5, "batch_size": 11, "capture": capture(step=2, batch_size=2)}, "fl_setting.batch_size=11: 12"),
    ],
)
def test_a_batch_on_the_way_to_an_update_may_be_too_small(data: Data, changes: dict, key: str) -> None:
    """As of a training, also where there is none: here every image is one value a channel at the last layer."""
    model = ResNet(blocks=(1, 1, 1, 1), width=2, stem="small", norm="batch", activation="relu", init="he")
    setting = fedavg(rounds=0, **{"victims": 1, **changes})
    setting.check(data, model, Stack({}), Rng(0))
    with pytest.raises(UserError, match=f"{key}.* make a batch of 1, and .*; take another batch size"):
        setting.views()[0].check(data, model, Stack({}), Rng(0))


def test_where_sums_alone_are_seen_every_client_must_have_enough(data: Data, lenet: ConvNet) -> None:
    class Summing(Defense):
        sums_only = True

    uneven = {"partition": "dirichlet", "dirichlet_alpha": 0.1, "rounds": 0}
    sizes = [len(s) for s in fedavg(**uneven).shards(data, Rng(0))]
    most = sizes.index(max(sizes))
    chosen = {**uneven, "victims": min(sizes) + 1, "capture": capture(client=most)}
    exposed(data, lenet, **chosen)
    with pytest.raises(UserError, match=rf"client {sizes.index(min(sizes))} holds {min(sizes)}"):
        exposed(data, lenet, Stack({"summing": Summing()}), **chosen)


def test_the_least_error_under_noise_is_reached_by_who_knows_the_units_errors(data: Data) -> None:
    """Over many draws, and with nothing else to go by."""
    model, sigma = MLP(width=20, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5), 0.01
    noisy = Stack({"noise": NoisyGradients(sigma=sigma, distribution="gaussian")})
    clean, out = (exposed(data, model, stack, victims=8) for stack in (None, noisy))
    assert clean.measures["noise_floor_mse"] == [0.0] * 8
    d, sent = clean.seen.delta["fc1.bias"], out.seen.delta["fc1.weight"]
    found = torch.einsum("vh,vhd->vd", d, sent) / d.square().sum(1)[:, None]
    errors = (found - data.domain.inputs(out.truth.pixels).flatten(1)).square().mean(1)
    assert out.measures["noise_floor_mse"] == pytest.approx(errors.tolist(), rel=0.7)
    assert sum(out.measures["noise_floor_mse"]) == pytest.approx(float(errors.sum()), rel=0.3)
    norms = torch.cat([d.flatten(1) for d in out.seen.delta.values()], 1).norm(dim=1)
    assert out.measures["update_norm"] == pytest.approx(norms.tolist(), rel=1e-5)


def test_the_least_error_under_noise_on_a_clipped_gradient_goes_by_what_is_left_of_it(data: Data) -> None:
    model = MLP(width=20, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
    given = {"max_grad_norm": 0.1, "epsilon": None, "delta": 0.01, "accountant": "rdp", "poisson": True}
    clipped, noisy = (Stack({"dp_sgd": DpSgd(noise_multiplier=sigma, **given)}) for sigma in (0.0, 0.01))
    clean, out = (exposed(data, model, stack, victims=8, rounds=0) for stack in (clipped, noisy))
    assert clean.measures["noise_floor_mse"] == [0.0] * 8
    d = clean.seen.delta["fc1.bias"].double()
    assert out.measures["noise_floor_mse"] == pytest.approx((0.001**2 / d.square().sum(1)).tolist(), rel=1e-4)


def test_noise_on_the_aggregate_leaves_an_error_that_is_not_told_as_none(data: Data) -> None:
    model = MLP(width=20, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
    noise = {"max_update_norm": 1.0, "epsilon": None, "noise_multiplier": 1.0, "delta": 1e-5}
    stack = Stack({"central_dp": CentralDp(**noise, accountant="rdp", amplification=False)})
    found = [exposed(data, model, stack, clients=2, position=where) for where in ("server", "client")]
    assert [one.measures["noise_floor_mse"] for one in found] == [[0.0] * 3, None]


def test_without_a_dense_first_layer_or_of_several_images_there_is_no_such_error(data: Data, lenet: ConvNet) -> None:
    assert exposed(data, lenet).measures["noise_floor_mse"] is None
    assert exposed(data, lenet, capture=capture(batch_size=2)).measures["noise_floor_mse"] is None
