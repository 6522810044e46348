import math
from typing import Any

import pytest
import torch
from tiny import Bench, capture, central, fedavg
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.func import grad, vmap
from torch.nn.functional import cross_entropy, softplus

from privsweep.defense.precode import Precode
from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, Domain, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import System
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled
from privsweep.metric.accuracy import accuracy
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.split_at import cut
from privsweep.model.stochastic import draw, forward
from privsweep.training.fit import fit
from privsweep.training.local import gradient, weights_of
from privsweep.training.stacked import stackable

CPU = torch.device("cpu")
PRECODE = Precode(k=5, beta=0.01)
STACK = Stack({"precode": PRECODE})


@pytest.fixture
def net(data: Data, lenet: ConvNet) -> nn.Sequential:
    return PRECODE.model(lenet.build(data.domain, Rng(0)), Rng(1)).double()


@pytest.fixture
def batch(data: Data) -> tuple[Tensor, Tensor]:
    return data.domain.inputs(data.train.pixels(slice(0, 6)).double()), data.train.labels[:6]


Batch = tuple[Tensor, Tensor]


def test_the_bottleneck_stands_before_the_output_and_names_are_kept(data: Data, lenet: ConvNet) -> None:
    plain = lenet.build(data.domain, Rng(0))
    net = PRECODE.model(plain, Rng(1))
    names = [name for name, _ in plain.named_children()]
    assert [name for name, _ in net.named_children()] == [*names[:-1], "bottleneck", "output"]
    stored, added = net.state_dict(), {"bottleneck.encoder", "bottleneck.decoder"}
    assert set(stored) == {*plain.state_dict(), *(f"{a}.{kind}" for a in added for kind in ("weight", "bias"))}
    assert all(torch.equal(stored[name], w) for name, w in plain.state_dict().items())
    features = plain.output.in_features
    assert stored["bottleneck.encoder.weight"].shape == (10, features)
    assert stored["bottleneck.decoder.weight"].shape == (features, 5)


def test_the_new_weights_are_pytorchs_from_their_own_stream(data: Data, lenet: ConvNet) -> None:
    one, same, other = (PRECODE.model(lenet.build(data.domain, Rng(0)), Rng(seed)).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(w, same[name]) for name, w in one.items())
    assert not torch.equal(one["bottleneck.encoder.weight"], other["bottleneck.encoder.weight"])
    bound = one["bottleneck.encoder.weight"].shape[1] ** -0.5
    assert 0.9 * bound < one["bottleneck.encoder.weight"].abs().max() <= bound


def test_outputs_by_hand(net: nn.Sequential, batch: Batch) -> None:
    x, _ = batch
    noise = draw(net, 6, Rng(2), CPU)
    head, _ = cut(net, "flatten")
    mu, raw = net.bottleneck.encoder(head(x)).split(5, 1)
    sigma = softplus(raw)
    logits = net.output.bias + net.bottleneck.decoder(mu + sigma * noise["bottleneck.noise"]) @ net.output.weight.mT
    bits = kl_divergence(Normal(mu, sigma), Normal(0.0, 1.0)).sum(1) / math.log(2)
    out = forward(net, noise, x)
    assert torch.allclose(out[:, :-1], logits)
    assert torch.allclose(out[:, -1], bits)


def test_the_loss_adds_beta_times_the_mean_divergence() -> None:
    outputs = torch.tensor([[2.0, -1.0, 0.5, 3.0], [0.0, 1.0, -2.0, 5.0]])
    y = torch.tensor([0, 2])
    expected = cross_entropy(outputs[:, :3], y) + 0.01 * 4.0
    assert torch.allclose(PRECODE.loss(cross_entropy)(outputs, y), expected)
    assert torch.equal(Precode(k=1, beta=0.0).loss(cross_entropy)(outputs, y), cross_entropy(outputs[:, :3], y))


def test_it_samples_in_either_mode_and_explicit_noise_decides(net: nn.Sequential, batch: Batch) -> None:
    x, _ = batch
    one, other = draw(net, 6, Rng(2), CPU), draw(net, 6, Rng(3), CPU)
    for mode in (True, False):
        net.train(mode)
        assert torch.equal(forward(net, one, x), forward(net, one, x))
        assert not torch.allclose(forward(net, one, x)[:, :-1], forward(net, other, x)[:, :-1])
        assert torch.equal(forward(net, one, x)[:, -1], forward(net, other, x)[:, -1])
        assert torch.equal(net(x), net(x))


def test_a_cut_at_every_layer_recomposes_the_whole(net: nn.Sequential, batch: Batch) -> None:
    x, _ = batch
    for name, _ in net.named_children():
        head, tail = cut(net, name)
        assert torch.equal(tail(head(x)), net(x))


def test_victims_stacked_are_victims_in_turn(net: nn.Sequential, data: Data) -> None:
    """Gradients, and their second derivatives as an attack takes them, with noise of each victim's own."""
    x = data.domain.inputs(data.train.pixels(slice(0, 6)).double()).view(3, 2, 1, 8, 8)
    y = data.train.labels[:6].view(3, 2)
    noises = [draw(net, 2, Rng(0).child("victim", v), CPU) for v in range(3)]
    weights, loss = weights_of(net), PRECODE.loss(cross_entropy)

    def size(x: Tensor, y: Tensor, noise: Tensors) -> Tensor:
        grads = grad(lambda w: loss(forward(net, {**w, **noise}, x), y))(weights)
        return sum(g.square().sum() for g in grads.values())

    both = vmap(grad(size))(x, y, {"bottleneck.noise": torch.stack([n["bottleneck.noise"] for n in noises])})
    alone = torch.stack([grad(size)(x[v], y[v], noises[v]) for v in range(3)])
    assert torch.allclose(both, alone, rtol=1e-9, atol=1e-12)
    assert alone.abs().min() > 0
    assert torch.autograd.gradcheck(
        lambda x: size(x, y[0], noises[0]), x[0].clone().requires_grad_(True), fast_mode=True
    )


def test_training_draws_fresh_noise_and_defends_the_loss(net: nn.Sequential, batch: Batch) -> None:
    x, y = batch
    loss = PRECODE.loss(cross_entropy)
    grads, value = gradient(net, loss, x, y, STACK, Rng(4))
    noise = draw(net, 6, Rng(4).child("noise"), CPU)
    assert torch.equal(value, loss(forward(net, noise, x), y))
    other, _ = gradient(net, loss, x, y, STACK, Rng(5))
    assert not torch.allclose(grads["output.weight"], other["output.weight"])


@pytest.mark.parametrize("rule", [Optimizer("adam", 0.01, 0.0), Optimizer("sgd", 0.1, 0.9)])
def test_stacked_clients_train_as_in_turn(data: Data, net: nn.Sequential, rule: Optimizer) -> None:
    """Clients of unequal size, so that padded examples and paused clients take part."""

    class Double(Domain):
        def inputs(self, pixels: Tensor) -> Tensor:
            return super().inputs(pixels.double())

    index = [torch.arange(a, b) for a, b in [(0, 20), (20, 33), (33, 60)]]
    domain, rngs = Double(**vars(data.domain)), [Rng(0).child("client", k) for k in range(3)]
    schedule = LocalSchedule(rule, epochs=2, steps=None, batch_size=8)
    start, examples = alike(weights_of(net), 3), labelled(data.train, domain, index)
    given = Training(net, start, None, PRECODE.loss(cross_entropy), examples, schedule, rngs)
    turn, stack = (fit(given, STACK, parallel=p) for p in ("sequential", "stacked"))
    assert set(turn.weights) == set(stack.weights)
    assert all(torch.allclose(w, stack.weights[n], rtol=1e-9, atol=1e-10) for n, w in turn.weights.items())
    assert torch.allclose(turn.losses, stack.losses, atol=1e-5)


def test_noise_does_not_keep_clients_from_being_stacked(net: nn.Sequential) -> None:
    assert stackable(net, STACK)
    assert stackable(nn.Sequential(net, nn.BatchNorm1d(11)), STACK)


def test_a_defended_federation_trains_reproducibly(data: Data, lenet: ConvNet) -> None:
    def trained(**changes: Any) -> System:
        return fedavg(**changes).train(data, lenet, STACK, Rng(0), Bench())

    one, same, stacked = trained(), trained(), trained(parallel="stacked")
    for name, w in one.snapshots[2].items():
        assert torch.equal(w, same.snapshots[2][name])
        assert torch.allclose(w, stacked.snapshots[2][name], atol=1e-4)
    assert one.utility == same.utility


def test_a_defended_model_learns(data: Data) -> None:
    mlp = MLP(width=32, depth=1, activation="relu", dropout=0.0, init="default", init_bound=0.5)
    system = central(batch_size=20, epochs=30).train(
        data, mlp, Stack({"precode": Precode(k=16, beta=0.001)}), Rng(0), Bench()
    )
    assert system.utility["train_accuracy"] > 0.9


def test_a_captured_gradient_is_sampled_and_a_victims_does_not_depend_on_the_others(data: Data, lenet: ConvNet) -> None:
    def seen(victims: int) -> Tensors:
        setting = fedavg(rounds=0, victims=victims, capture=capture(batch_size=2))
        system = setting.train(data, lenet, STACK, Rng(0), Bench())
        out = setting.views()[0].expose(system, data, lenet, STACK, Rng(0))
        assert set(out.seen.delta) == {name for name, _ in out.known.model.named_parameters()}
        return out.seen.delta

    few, more = seen(1), seen(3)
    assert all(torch.equal(g, more[name][:1]) for name, g in few.items())


def test_accuracy_reads_the_classes_only(data: Data, net: nn.Sequential) -> None:
    """The divergence is larger than any logit, and it is no class."""
    net = net.float()
    weights = weights_of(net)
    weights["bottleneck.encoder.bias"] = weights["bottleneck.encoder.bias"] + 20
    weights["output.bias"] = torch.nn.functional.one_hot(torch.tensor(3), 10) * 1e6
    share = (data.train.labels == 3).float().mean().item()
    assert accuracy(net, weights, data.train, data.domain) == pytest.approx(share)


def test_features_far_out_have_finite_derivatives(net: nn.Sequential) -> None:
    for scale in (1e3, 1e6):
        x = torch.full((1, net.bottleneck.encoder.in_features), scale, dtype=torch.float32, requires_grad=True)
        net.float().bottleneck(x)[:, -1].sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()


def test_a_model_that_does_not_end_in_a_linear_output_is_refused(net: nn.Sequential) -> None:
    unnamed = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    convolution = nn.Sequential()
    convolution.add_module("output", nn.Conv2d(1, 2, 1))
    for model in (unnamed, convolution, net, nn.Sequential()):
        with pytest.raises(UserError, match=r"^defense=precode: .*choose another model, or leave precode out$"):
            PRECODE.model(model, Rng(0))
