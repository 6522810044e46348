"""What an update tells of its batch beside the gradient."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from tiny import Bench, capture, fedavg
from torch import Tensor, nn

from privsweep.defense.secure_aggregation import SecureAggregation
from privsweep.defense.stack import Stack
from privsweep.gradient_inversion.batch_statistics import know_nothing, tracking_layers, wanted_moments
from privsweep.gradient_inversion.engine.distance import Squared
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.gradient_inversion.engine.statistics import Wanted
from privsweep.gradient_inversion.engine.together import TogetherMatcher
from privsweep.gradient_inversion.update_to_gradient import local_steps
from privsweep.interface.data import Architecture, Data, Domain
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Update
from privsweep.model.convnet import ConvNet

BATCH = 4


@dataclass(frozen=True)
class Remembering:
    """A network whose normalisations move by ``momentum``."""

    network: ConvNet
    momentum: float | None

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        net = self.network.build(domain, rng)
        for layer in tracking_layers(net).values():
            layer.momentum = self.momentum
        return net


def exposed(data: Data, model: Architecture, defense: Stack | None = None, **changes: object) -> Exposure:
    setting, stack = fedavg(**changes), defense or Stack({})
    system = setting.train(data, model, stack, Rng(0), Bench())
    return setting.views()[0].expose(system, data, model, stack, Rng(0))


@pytest.fixture
def normed(lenet: ConvNet) -> ConvNet:
    return replace(lenet, norm="batch")


def reached(out: Exposure, victim: int, images: Tensor, data: Data) -> tuple[Tensor, Tensor]:
    """The moments of what the first normalisation of the network got of some images."""
    net = out.known.model
    first, norm = (name for name, _ in list(net.named_children())[:2])
    assert isinstance(net.get_submodule(norm), nn.BatchNorm2d)
    z = net.get_submodule(first)(data.domain.inputs(images)).detach()
    return z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)


def wanted_of(out: Exposure, data: Data) -> dict[str, Wanted]:
    """After one step."""
    seen, model = out.seen, out.known.model
    assert isinstance(seen, Update)
    normalised = batch_activations(model, (seen.examples, *data.domain.shape)).normalised
    return wanted_moments(model, seen, out.known.recipe, normalised, 1.0)


@pytest.mark.parametrize("momentum", [0.1, 0.7, None])
@pytest.mark.parametrize("what", ["gradient", "difference"])
def test_the_moments_of_a_batch_follow_exactly(what: str, momentum: float | None, data: Data, normed: ConvNet) -> None:
    local = {"optimizer": "sgd", "local_epochs": 1, "rounds": 1}
    network = Remembering(normed, momentum)
    out = exposed(data, network, capture=capture(batch_size=BATCH, what=what, round="last"), **local)
    wanted = wanted_of(out, data)
    first = next(iter(wanted.values()))
    assert first.weight == 1 / len(wanted)
    for victim, pixels in enumerate(out.truth.pixels):
        mean, variance = reached(out, victim, pixels, data)
        assert torch.allclose(first.moments.mean[victim], mean, atol=1e-5)
        assert torch.allclose(first.moments.variance[victim], variance, atol=1e-5, rtol=1e-4)


def test_where_clients_normalise_by_training_s_statistics_these_are_told(data: Data, normed: ConvNet) -> None:
    untrained, trained = (
        exposed(data, normed, capture=capture(batch_size=BATCH, mode="eval", round=r), rounds=1) for r in (0, "last")
    )
    assert know_nothing(untrained.known.model)
    assert not know_nothing(trained.known.model)
    wanted = wanted_of(trained, data)
    for name, own in wanted.items():
        running = trained.seen.weights[f"{name}.running_mean"]
        assert torch.allclose(own.moments.mean, running.expand_as(own.moments.mean), atol=1e-5)
    assert isinstance(trained.seen, Update)
    again = wanted_of(replace(trained, seen=replace(trained.seen, statistics={})), data)
    for name, own in wanted.items():
        assert torch.allclose(own.moments.variance, again[name].moments.variance, rtol=1e-4)


@pytest.mark.parametrize("summed", [False, True], ids=["another client", "secure aggregation"])
def test_of_several_clients_the_mean_is_seen(summed: bool, data: Data, normed: ConvNet) -> None:
    stack = (
        Stack({"secure_aggregation": SecureAggregation(fraction_bits=24, bits=48, dropout=0.0, threshold=2)})
        if summed
        else None
    )
    position = "server" if summed else "client"
    clients = 3
    out = exposed(data, normed, stack, rounds=0, clients=clients, position=position, capture=capture(batch_size=2))
    assert isinstance(out.seen, Update)
    assert out.seen.contributors == (clients if summed else clients - 1)
    first = next(iter(wanted_of(out, data).values()))
    for victim, pixels in enumerate(out.truth.pixels):
        each = [reached(out, victim, part, data) for part in pixels.split(2)]
        mean, variance = (torch.stack(parts).mean(0) for parts in zip(*each, strict=True))
        assert torch.allclose(first.moments.mean[victim], mean, atol=1e-5)
        assert torch.allclose(first.moments.variance[victim], variance, atol=1e-5, rtol=1e-4)


def test_some_of_the_victims_have_their_own_statistics(data: Data, normed: ConvNet) -> None:
    seen = exposed(data, normed, rounds=0).seen
    assert isinstance(seen, Update)
    part = seen.take(slice(1, 3))
    assert all(torch.equal(part.statistics[name], s[1:3]) for name, s in seen.statistics.items())


def test_a_network_without_batch_normalisation_sends_none(data: Data, lenet: ConvNet) -> None:
    out = exposed(data, lenet, rounds=0)
    assert isinstance(out.seen, Update)
    assert not out.seen.statistics
    assert not tracking_layers(out.known.model)
    assert not know_nothing(out.known.model)


@pytest.mark.parametrize("victims", [2, 4], ids=["alone", "together"])
@pytest.mark.parametrize("momentum", [0.3, None])
def test_steps_taken_anew_from_the_originals_leave_the_statistics_that_were_sent(
    momentum: float | None, victims: int, data: Data, normed: ConvNet
) -> None:
    changes = {"optimizer": "sgd", "lr": 0.05, "local_epochs": 3, "batch_size": BATCH, "victims": victims}
    captured = capture(batch_size=BATCH, what="difference")
    network = replace(normed, activation="tanh", init="default")  # of no tiny variances, which rounding spoils
    out = exposed(data, Remembering(network, momentum), rounds=0, clients=2, capture=captured, **changes)
    seen, known = out.seen, out.known
    assert isinstance(seen, Update)
    steps = local_steps(known.recipe, 1)
    activations = batch_activations(known.model, (BATCH, *data.domain.shape))
    images, labels = data.domain.inputs(out.truth.pixels), nn.functional.one_hot(out.truth.labels, data.domain.classes)
    far = []
    for unrolled in (True, False):
        wanted = wanted_moments(known.model, seen, known.recipe, activations.normalised, 1.0, unrolled)
        given = (known.model, seen.weights, steps.scaled(seen.delta), Squared(), activations)
        match = matcher(*given, wanted=wanted, local=steps)
        assert isinstance(match, TogetherMatcher) == (victims == 4)
        far.append(match(images, labels.float()).penalty.max())
        steps = replace(steps, steps=1)  # whose only batch is at the weights before
    assert far[0] < 1e-6 < 1e-2 < far[1]
