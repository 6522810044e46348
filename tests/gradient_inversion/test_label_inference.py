"""Labels read off gradients."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.gradient_inversion.label_inference import label_images, read_labels
from privsweep.interface.data import Data, Tensors
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 3e38, -3e38, 0.0])
@pytest.mark.parametrize("examples", [1, 4, 40])
def test_a_gradient_that_tells_nothing_has_labels_all_the_same(
    data: Data, lenet: ConvNet, value: float, examples: int
) -> None:
    net = lenet.build(data.domain, Rng(0))
    gradient = {name: torch.full((2, *p.shape), value) for name, p in net.named_parameters()}
    labels = read_labels(net, net.state_dict(), gradient, data.domain, examples, Rng(0))
    assert labels.shape == (2, examples)
    assert ((labels >= 0) & (labels < data.domain.classes)).all()
    images = torch.zeros(2, examples, *data.domain.shape)
    assert label_images(net, net.state_dict(), gradient, images, data.domain.classes).shape == (2, examples)


def test_where_the_sum_is_nothing_classes_are_even(data: Data, lenet: ConvNet) -> None:
    net = lenet.build(data.domain, Rng(0))
    gradient = {name: torch.full((1, *p.shape), float("nan")) for name, p in net.named_parameters()}
    labels = read_labels(net, net.state_dict(), gradient, data.domain, 40, Rng(0))
    assert labels[0].bincount().tolist() == [4] * data.domain.classes


def gradients(net: nn.Module, data: Data, count: int, noise: float = 0.0) -> tuple[Tensors, Tensor]:
    """Of single images, by name ``[V, ...]``, and their labels ``[V, 1]``."""
    x, y = data.domain.inputs_of(data.train, slice(count)), data.train.labels[:count]
    own = list(net.parameters())
    each = [torch.autograd.grad(cross_entropy(net(x[v, None]), y[v, None]), own) for v in range(count)]
    names = [name for name, _ in net.named_parameters()]
    sent = {name: torch.stack(parts) for name, parts in zip(names, zip(*each, strict=True), strict=True)}
    return {name: g + noise * Rng(1).child(name).normal(*g.shape) for name, g in sent.items()}, y[:, None]


def read(net: nn.Module, data: Data, sent: Tensors) -> Tensor:
    return read_labels(net, net.state_dict(), sent, data.domain, 1, Rng(0))


def learn(net: nn.Module, data: Data, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        cross_entropy(net(data.domain.inputs_of(data.train, slice(None))), data.train.labels).backward()
        optimizer.step()


def told(net: nn.Module, data: Data, batch: Tensor, scale: float = 1.0) -> int:
    """How many labels of a batch are read, off a gradient that was multiplied by ``scale``."""
    y, names = data.train.labels[batch], [name for name, _ in net.named_parameters()]
    parts = torch.autograd.grad(cross_entropy(net(data.domain.inputs_of(data.train, batch)), y), [*net.parameters()])
    sent = {name: scale * g[None] for name, g in zip(names, parts, strict=True)}
    found = read_labels(net, net.state_dict(), sent, data.domain, len(batch), Rng(0))[0]
    return int(torch.minimum(found.bincount(minlength=10), y.bincount(minlength=10)).sum())


def mlp(activation: str = "relu", width: int = 64) -> MLP:
    return MLP(width=width, depth=1, activation=activation, dropout=0.0, init="default", init_bound=0.5)


@pytest.mark.parametrize(("steps", "least"), [(40, 54), (200, 58)])  # by one mean prediction for all classes 51, 15
def test_labels_of_a_batch_are_read_off_a_network_that_has_learnt(data: Data, steps: int, least: int) -> None:
    net = mlp().build(data.domain, Rng(0))
    learn(net, data, torch.optim.SGD(net.parameters(), lr=0.5), steps)
    assert sum(told(net, data, batch) for batch in torch.arange(60).view(30, 2)) >= least  # of 60


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_network_that_is_sure_of_two_classes_does_not_hide_which_they_are(data: Data, activation: str) -> None:
    net, labels = mlp(activation).build(data.domain, Rng(0)), data.train.labels
    learn(net, data, torch.optim.SGD(net.parameters(), lr=0.5), 200)
    batches = [((labels == c) | (labels == (c + 3) % 10)).nonzero()[:, 0] for c in range(10)]
    for scale in (1.0, 0.01):  # where any class may be 36 of 120, clipped 28
        assert sum(told(net, data, batch, scale) for batch in batches) >= 100


def test_before_a_network_has_learnt_a_class_that_is_not_seen_may_be_there(data: Data, lenet: ConvNet) -> None:
    net = replace(lenet, width=12).build(data.domain, Rng(0))
    assert sum(told(net, data, batch) for batch in torch.arange(60).view(2, 30)) >= 58


def test_so_are_those_of_a_large_batch_for_which_noise_stands_badly(data: Data, lenet: ConvNet) -> None:
    net = replace(lenet, activation="relu", init="default").build(data.domain, Rng(0))
    learn(net, data, torch.optim.Adam(net.parameters(), lr=1e-2), 40)
    assert told(net, data, torch.arange(30)) >= 26  # by what it answers to Gaussian inputs 21


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("alike", [False, True])
def test_clipping_does_not_hide_the_labels_of_fewer_examples_than_classes(
    data: Data, lenet: ConvNet, alike: bool, pruned: bool
) -> None:
    net = replace(lenet, activation="relu", init="default").build(data.domain, Rng(0))
    sent, labels = gradients(net, data, 60)
    batches = (labels[:, 0].argsort() if alike else torch.arange(60)).view(10, 6)
    mean = {name: 0.01 * g[batches].mean(1) for name, g in sent.items()}
    if pruned:
        mean["output.bias"][:, ::2] *= mean["output.bias"][:, ::2] < 0
    found, true = (
        torch.stack([row.bincount(minlength=10) for row in rows])
        for rows in (read_labels(net, net.state_dict(), mean, data.domain, 6, Rng(0)), labels[batches, 0])
    )
    assert torch.minimum(found, true).sum() >= 54  # of 60; taken for whole 47, and 17 of those that are alike


@pytest.mark.parametrize("init", ["default", "uniform"])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh", "gelu", "elu", "selu"])
def test_a_label_without_noise_is_read_exactly(data: Data, lenet: ConvNet, activation: str, init: str) -> None:
    """As by the bias alone; an untrained network with wide weights may be as sure of an image as float32 can say."""
    narrow = mlp(activation, width=20)
    for model in (replace(lenet, activation=activation, init=init), replace(narrow, init=init)):
        net = model.build(data.domain, Rng(0))
        sent, labels = gradients(net, data, 40)
        told = sent["output.bias"].amin(1) < 0
        assert told.sum() > 30
        assert torch.equal(read(net, data, sent)[told], labels[told])


@pytest.mark.parametrize("shift", [-3.0, -1.0, -0.2])
def test_a_label_is_read_where_features_point_away_from_those_that_are_expected(data: Data, shift: float) -> None:
    """Features of bright images are negative, those of darker ones positive, and the product with the mean is too."""

    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.output = nn.Linear(8, data.domain.classes)

        def forward(self, x: Tensor) -> Tensor:
            return self.output((0.3 - x.flatten(1).mean(1, keepdim=True)).expand(-1, 8) * 10 * shift)

    net = Shifted()
    sent, labels = gradients(net, data, 40)
    assert torch.equal(read(net, data, sent), labels)


def test_rows_tell_a_label_that_noise_hides_in_the_bias(data: Data, lenet: ConvNet) -> None:
    net = replace(lenet, width=12).build(data.domain, Rng(0))
    sent, labels = gradients(net, data, 60, noise=1.0)
    by_bias = sent["output.bias"].argmin(1, keepdim=True)
    assert (by_bias == labels).double().mean() < 0.6
    assert (read(net, data, sent) == labels).double().mean() > 0.9
    alone = {"output.bias": sent["output.bias"]}  # the rows are not sent
    assert torch.equal(read(net, data, alone), by_bias)


@pytest.mark.parametrize("examples", [1, 3])
def test_reading_labels_leaves_statistics_as_they_were(data: Data, lenet: ConvNet, examples: int) -> None:
    net = replace(lenet, norm="batch").build(data.domain, Rng(0)).train()
    sent = {name: torch.ones(2, *p.shape) for name, p in net.named_parameters()}
    weights, before = ({name: w.clone() for name, w in net.state_dict().items()} for _ in range(2))
    read_labels(net, weights, sent, data.domain, examples, Rng(0))
    for name, w in net.state_dict().items():
        assert torch.equal(w, before[name])
        assert torch.equal(weights[name], before[name])


def test_without_an_output_bias_labels_are_not_read(data: Data) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, data.domain.classes, bias=False))
    with pytest.raises(UserError, match=r"attack\.labels=analytic.*take labels=optimised"):
        read(net, data, {})


class Backwards(nn.Module):
    """A network that names its layers in another order than that in which it calls them."""

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.output, self.hidden = nn.Linear(12, classes), nn.Linear(inputs, 12)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.hidden(x.flatten(1)).relu())


def test_labels_are_read_off_the_layer_that_has_the_classes_wherever_it_is_named(data: Data) -> None:
    torch.manual_seed(0)
    net, x, y = (
        Backwards(prod(data.domain.shape), data.domain.classes),
        data.train.pixels(slice(3)),
        torch.tensor([4, 1, 7]),
    )
    named = dict(net.named_parameters())
    each = [torch.autograd.grad(cross_entropy(net(x[v : v + 1]), y[v : v + 1]), list(named.values())) for v in range(3)]
    gradient = {name: torch.stack([grads[n] for grads in each]) for n, name in enumerate(named)}
    assert read_labels(net, net.state_dict(), gradient, data.domain, 1, Rng(0))[:, 0].tolist() == y.tolist()
    with pytest.raises(UserError, match="does not end in a linear layer"):
        read_labels(nn.Linear(3, 4), {}, gradient, data.domain, 1, Rng(0))
