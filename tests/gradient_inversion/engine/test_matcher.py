import copy
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from privsweep.compiled.convolution import compiled_for
from privsweep.compiled.library import compiled
from privsweep.gradient_inversion.engine.autograd import AutogradMatcher
from privsweep.gradient_inversion.engine.distance import Squared
from privsweep.gradient_inversion.engine.local_steps import LocalSteps
from privsweep.gradient_inversion.engine.low_rank import Factors, Whole, factorise
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.gradient_inversion.engine.rule_activation import parameterless_rule
from privsweep.gradient_inversion.engine.rule_conv import CompiledConv, GramConv, PatchConv, VictimwiseConv
from privsweep.gradient_inversion.engine.rule_dense import GramLinear
from privsweep.gradient_inversion.engine.statistics import Moments, Wanted
from privsweep.gradient_inversion.engine.tangent import TangentMatcher
from privsweep.gradient_inversion.engine.together import TogetherMatcher, together
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.model.blocks import Activation, activation
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.residual import Residual
from privsweep.model.resnet import ResNet

DOMAIN = Domain((2, 9, 9), 3, (0.0,) * 2, (1.0,) * 2)
VICTIMS = 3


class Projected:
    """A distance that depends on all three numbers, as the cosine does."""

    needs_dot = True

    def value(self, r: Tensor, h: Tensor, n: Tensor) -> Tensor:
        return r + 0.3 * (h / n + 2) ** 2

    def with_factors(self, r: Tensor, h: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.value(r, h, n), torch.full_like(r, 2), 0.6 * (h / n + 2) / n


def stack(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers)


def convolution(**changes) -> nn.Sequential:
    settings = {"in_channels": 2, "out_channels": 4, "kernel_size": 3, "padding": 1} | changes
    conv = nn.Conv2d(**settings)
    return stack(conv, nn.Tanh(), nn.Conv2d(4, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(3))


def after_convolution(*layers: nn.Module) -> nn.Sequential:
    body = (nn.Conv2d(2, 4, 3, padding=1), *layers, nn.Tanh(), nn.LazyConv2d(4, 2), nn.Sigmoid())
    return stack(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))


def residual(*shortcut: nn.Module, norm: nn.Module | None = None) -> Residual:
    """Of four channels."""
    branch = stack(nn.Conv2d(4, 4, 3, padding=1), norm or nn.Identity(), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1))
    return Residual(branch, stack(*shortcut))


def residual_of_two() -> Residual:
    return Residual(stack(nn.Conv2d(2, 2, 3, padding=1)), stack())


LAYERS = {
    "conv": convolution(),
    "conv_stride": convolution(stride=2),
    "conv_uneven": convolution(kernel_size=(3, 2), stride=(2, 1), padding=(0, 1)),
    "conv_no_bias": convolution(bias=False),
    "conv_few_positions": stack(
        nn.Conv2d(2, 20, (4, 3), (4, 5), (1, 2)),
        nn.Tanh(),
        nn.Conv2d(20, 48, 2, bias=False),
        nn.Sigmoid(),
        nn.Conv2d(48, 40, 3, 2, 1),
        nn.Flatten(),
        nn.LazyLinear(3),
    ),
    "conv_dilated": convolution(dilation=(2, 1)),
    "conv_grouped": convolution(groups=2),
    "conv_depthwise": after_convolution(nn.Conv2d(4, 4, 3, groups=4, bias=False), nn.Conv2d(4, 8, 3, groups=4)),
    "conv_same": convolution(padding="same", dilation=2),
    "conv_valid": convolution(padding="valid", groups=2),
    "dropout_at_rest": after_convolution(nn.Dropout2d(0.5)).eval(),
    "linear": stack(nn.Flatten(), nn.Linear(162, 3)),
    "linear_no_bias": stack(nn.Flatten(), nn.Linear(162, 3, bias=False)),
    **{name: after_convolution(activation(name)) for name in get_args(Activation)},
    "max_pool": after_convolution(nn.MaxPool2d(2)),
    "max_pool_overlapping": after_convolution(nn.MaxPool2d(3, 2, 1)),
    "average_pool": after_convolution(nn.AvgPool2d(2)),
    "average_pool_overlapping": after_convolution(nn.AvgPool2d(3, 2, 1, ceil_mode=True)),
    "nested": after_convolution(stack(nn.Sigmoid(), nn.MaxPool2d(2))),
    "batch_norm": after_convolution(nn.BatchNorm2d(4)),
    "batch_norm_fixed": after_convolution(nn.BatchNorm2d(4)).eval(),
    "batch_norm_of_no_past": after_convolution(nn.BatchNorm2d(4, track_running_stats=False)).eval(),
    "group_norm": after_convolution(nn.GroupNorm(2, 4)),
    "layer_norm": after_convolution(nn.LayerNorm((4, 9, 9)), nn.GELU()),
    "layer_norm_flat": stack(nn.Flatten(), nn.Linear(162, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)),
    "starts_with_norm": stack(
        nn.BatchNorm2d(2), nn.Tanh(), nn.Conv2d(2, 4, 2), nn.Sigmoid(), nn.Flatten(), nn.LazyLinear(3)
    ),
    "residual": after_convolution(residual()),
    "residual_projected": after_convolution(residual(nn.Conv2d(4, 4, 1), nn.GroupNorm(4, 4), norm=nn.BatchNorm2d(4))),
    "residual_nested": after_convolution(Residual(stack(residual(), nn.Tanh()), stack(residual(nn.Tanh())))),
    "starts_without_weights": stack(
        nn.AvgPool2d(3), nn.Sigmoid(), nn.Flatten(), nn.Linear(18, 5), nn.Tanh(), nn.Linear(5, 3)
    ),
}
CONV = {
    "width": 4,
    "layers": (1, 1),
    "depth": 2,
    "kernel": 3,
    "padding": "same",
    "pool_after": (1, 2),
    "fc": (6,),
    "fc_width": None,
}
MODELS = {
    "lenet": ConvNet(**CONV, pooling="max", norm="none", activation="relu", init="default", init_bound=0.5),
    "lenet_dlg": ConvNet(**CONV, pooling="stride", norm="none", activation="sigmoid", init="uniform", init_bound=0.5),
    "lenet_group": ConvNet(**CONV, pooling="average", norm="group", activation="tanh", init="default", init_bound=0.5),
    "mlp": MLP(width=16, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5),
    "resnet": ResNet(blocks=(2, 1), width=4, stem="small", norm="batch", activation="tanh", init="he"),
    "resnet_pooled": ResNet(blocks=(1, 1), width=4, stem="pooled", norm="batch", activation="tanh", init="he"),
    "resnet_group": ResNet(blocks=(1, 1), width=4, stem="imagenet", norm="group", activation="relu", init="default"),
}


class World:
    def __init__(self, model: nn.Module, batch: int):
        torch.manual_seed(0)
        model = copy.deepcopy(model)
        model(torch.rand(2, *DOMAIN.shape))  # lazy layers take their shape
        self.model = model.double()
        self.batch = batch
        truth = torch.rand(VICTIMS, batch, *DOMAIN.shape, dtype=torch.float64)
        labels = torch.randint(3, (VICTIMS, batch))
        grads = [self.gradient(x, y) for x, y in zip(truth, labels, strict=True)]
        names = [name for name, _ in model.named_parameters()]
        self.target = {n: torch.stack(g) for n, g in zip(names, zip(*grads, strict=True), strict=True)}
        self.weights = {name: w.detach().clone() for name, w in model.state_dict().items()}
        self.images = torch.randn_like(truth)
        self.probabilities = torch.randn(VICTIMS, batch, 3, dtype=torch.float64).softmax(2)
        self.truth, self.labels = truth, labels

    def gradient(self, x: Tensor, y: Tensor, graph: bool = False) -> tuple[Tensor, ...]:
        return torch.autograd.grad(cross_entropy(self.model(x), y), list(self.model.parameters()), create_graph=graph)

    def matcher(self, distance=None, **changes):
        distance = distance or Squared()
        activations = batch_activations(self.model, tuple(self.images.shape[1:]))
        return matcher(self.model, self.weights, self.target, distance, activations, **changes)

    def expected(self, distance) -> list[tuple[Tensor, Tensor, Tensor]]:
        """One victim at a time, differentiated twice."""
        results = []
        for v in range(VICTIMS):
            x, y = self.images[v].clone().requires_grad_(True), self.probabilities[v].clone().requires_grad_(True)
            own = torch.cat([g.flatten() for g in self.gradient(x, y, graph=True)])
            goal = torch.cat([g[v].flatten() for g in self.target.values()])
            e = own - goal
            value = distance.value(e @ e, e @ goal, goal @ goal)
            results.append((value.detach(), *torch.autograd.grad(value, (x, y))))
        return results


def close(found: Tensor, expected: Tensor, relative: float = 1e-10) -> bool:
    return bool((found - expected).norm() <= relative * expected.norm().clamp(min=1e-12))


def agrees(world: World, found, distance) -> bool:
    together = [torch.stack(part) for part in zip(*world.expected(distance), strict=True)]
    return all(close(f, e) for f, e in zip(found[:3], together, strict=True))


@pytest.fixture(params=[True, False], ids=["compiled", "pytorch"])
def code(request):
    """By compiled code where there is some, and without."""
    if request.param and not compiled_for(torch.device("cpu"), torch.float64):
        pytest.skip("no C compiler")
    with compiled(request.param):
        yield


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("distance", [Squared(), Projected()], ids=["squared", "projected"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_rule_equals_autograd(name, batch, distance):
    world = World(LAYERS[name], batch)
    match = world.matcher(distance)
    assert isinstance(match, TangentMatcher)
    assert agrees(world, match(world.images, world.probabilities), distance)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", MODELS)
def test_every_model_equals_autograd(name, mode, batch):
    model = MODELS[name].build(DOMAIN, Rng(0)).train(mode == "train")
    world = World(model, batch)
    match = world.matcher()
    assert isinstance(match, TangentMatcher)
    before = {name: w.clone() for name, w in world.weights.items()}
    assert agrees(world, match(world.images, world.probabilities), Squared())
    assert all(torch.equal(before[name], w) for name, w in world.weights.items())


def wanted(world: World) -> dict[str, Wanted]:
    """Moments drawn for every batch normalisation that has learnt what to multiply with."""
    made = {}
    for name, layer in world.model.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            mean, spread = torch.randn(2, VICTIMS, layer.num_features, dtype=torch.float64)
            made[name] = Wanted(Moments(mean, spread.exp()), weight=0.7, eps=layer.eps)
    return made


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("name", ["batch_norm", "starts_with_norm", "residual_projected", "resnet", "resnet_pooled"])
def test_the_pull_of_moments_equals_autograd(name, mode, batch):
    model = LAYERS[name] if name in LAYERS else MODELS[name].build(DOMAIN, Rng(0))
    world = World(copy.deepcopy(model).train(mode == "train"), batch)
    moments = wanted(world)
    match = world.matcher(Projected(), wanted=moments)
    assert isinstance(match, TangentMatcher)
    rows = torch.tensor([2, 0, 2])
    found = match(world.images, world.probabilities)
    slow = AutogradMatcher(world.model, world.weights, world.target, Projected(), cross_entropy, wanted=moments)
    expected = slow(world.images, world.probabilities)
    assert all(close(f, e) for f, e in zip(found[:4], expected[:4], strict=True))
    for part in (match.take(rows), slow.take(rows)):
        again = part(world.images[rows], world.probabilities[rows])
        assert all(close(f, e[rows]) for f, e in zip(again[:4], expected[:4], strict=True))
    alone = world.matcher(Projected())(world.images, world.probabilities)
    assert close(found.distance, alone.distance)
    assert not alone.penalty.any()


def test_the_pull_vanishes_at_the_moments_themselves_and_is_what_it_is_said_to_be():
    world = World(LAYERS["batch_norm"], 3)
    conv, norm = world.model[0], world.model[1]
    reached = [conv(x).detach() for x in world.images]
    own = [Moments(z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)) for z in reached]
    there = {"1": Wanted(Moments(*map(torch.stack, zip(*own, strict=True))), 1.0, norm.eps)}
    at_rest = world.matcher(wanted=there)(world.images, world.probabilities)
    assert at_rest.penalty.max() < 1e-20
    assert close(at_rest.images, world.matcher()(world.images, world.probabilities).images)
    [given] = wanted(world).values()
    ratio = (there["1"].moments.variance + norm.eps) / (given.moments.variance + norm.eps)
    shift = (there["1"].moments.mean - given.moments.mean) ** 2 / (given.moments.variance + norm.eps)
    pulled = world.matcher(wanted={"1": given})(world.images, world.probabilities)
    assert close(pulled.penalty, 0.7 * (shift + ratio.log() ** 2).mean(1))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_of_no_past", "residual_projected", "normed"])
def test_every_client_behind_a_mean_normalises_by_its_own_batch(name):
    world = World(LAYERS[name] if name in LAYERS else TOGETHER[name][0], 4)
    parts = [world.truth.split(2, 1), world.labels.split(2, 1)]
    each = [[world.gradient(x, y) for x, y in zip(*part, strict=True)] for part in zip(*parts, strict=True)]
    of_two = ([(a + b) / 2 for a, b in zip(*both, strict=True)] for both in zip(*each, strict=True))
    world.target = dict(zip(world.target, map(torch.stack, zip(*of_two, strict=True)), strict=True))
    moments = wanted(world)
    match = world.matcher(Projected(), wanted=moments, clients=2)
    apart, mixed = (world.matcher(clients=n)(world.truth, one_hot(world.labels, 3).double()).distance for n in (2, 1))
    assert apart.max() < 1e-20 < 1e-6 < mixed.min()
    slow = AutogradMatcher(
        world.model, world.weights, world.target, Projected(), cross_entropy, wanted=moments, clients=2
    )
    rows = torch.tensor([2, 0, 2])
    expected = slow(world.images, world.probabilities)
    for found in (match(world.images, world.probabilities), together(slow, world.images, world.probabilities)):
        assert all(close(f, e) for f, e in zip(found[:4], expected[:4], strict=True))
    again = match.take(rows)(world.images[rows], world.probabilities[rows])
    assert all(close(f, e[rows]) for f, e in zip(again[:4], expected[:4], strict=True))


@pytest.mark.parametrize("sent", [("2.", "5."), ("0.", "2."), ("0.", "5."), ("5.",), ("0.weight",)], ids=str)
def test_what_was_not_sent_is_not_matched(sent):
    world = World(LAYERS["conv"], 2)
    world.target = {name: g for name, g in world.target.items() if name.startswith(sent)}
    match = world.matcher(Projected())
    assert isinstance(match, TangentMatcher)
    slow = AutogradMatcher(world.model, world.weights, world.target, Projected(), cross_entropy)
    pairs = zip(match(world.images, world.probabilities)[:3], slow(world.images, world.probabilities)[:3], strict=True)
    assert all(close(found, expected) for found, expected in pairs)


def test_a_bias_without_its_weight_is_matched():
    world = World(LAYERS["conv"], 2)
    del world.target["2.weight"], world.target["5.weight"]
    assert isinstance(world.matcher(), AutogradMatcher)


def test_weights_come_from_the_update_not_from_the_model():
    world = World(LAYERS["conv"], 1)
    found = world.matcher()
    expected = found(world.images, world.probabilities).distance
    with torch.no_grad():
        for parameter in world.model.parameters():
            parameter.zero_()
    assert torch.equal(world.matcher()(world.images, world.probabilities).distance, expected)


def test_another_loss_is_differentiated_as_it_is():
    world = World(LAYERS["conv"], 2)
    match = world.matcher(loss=lambda out, y: 2 * cross_entropy(out, y))
    assert isinstance(match, AutogradMatcher)
    doubled = match(world.images, world.probabilities).distance
    assert not torch.allclose(doubled, world.matcher()(world.images, world.probabilities).distance)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(2, 4, 3), nn.Mish()),
        (nn.Conv2d(2, 4, 3), nn.InstanceNorm2d(4, affine=True)),
        (nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False)),
        (residual_of_two(), nn.Tanh()),
    ],
    ids=["mish", "instance_norm", "norm_without_weights", "starts_with_two_paths"],
)
def test_what_has_no_rule_falls_back(layers):
    world = World(stack(*layers, nn.Flatten(), nn.LazyLinear(3)), 2)
    match = world.matcher()
    assert isinstance(match, AutogradMatcher)
    assert agrees(world, match(world.images, world.probabilities), Squared())


class Attention(nn.Module):
    """Of rows of pixels among each other, with layer norms over part of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.parts, self.head = nn.LayerNorm(18), nn.Linear(18, 24), nn.Linear(72, 3)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.parts(self.norm(x.movedim(1, 2).flatten(2))).chunk(3, -1)
        return self.head(nn.functional.scaled_dot_product_attention(query, key, value).flatten(1))


class Choosy(nn.Linear):
    """A user's layer that looks at the numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1) if x.sum() > 0 else -x.flatten(1))


TOGETHER = {
    "mish": (stack(nn.Conv2d(2, 4, 3), nn.Mish(), nn.Flatten(), nn.LazyLinear(3)), True),
    "attention": (Attention(), True),
    "two_paths": (stack(residual_of_two(), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)), True),
    "normed": (stack(residual_of_two(), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.LazyLinear(3)), True),
    "choosy": (Choosy(162, 3), False),
    "random": (stack(nn.Flatten(), nn.Linear(162, 6), nn.Dropout(0.5), nn.LayerNorm(6), nn.Linear(6, 3)), False),
}  # fmt: skip


@pytest.fixture
def few(monkeypatch):
    """As many victims as here are enough to be matched together."""
    monkeypatch.setattr("privsweep.gradient_inversion.engine.together._FEWEST", {"cpu": 2})


STEPS = {
    "sgd": LocalSteps("sgd", 0.5, 0.3, 3, 2, 1, scale=-2.0),
    "adam": LocalSteps("adam", 0.0, 0.01, 3, 1, 1, scale=-50.0),
}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("rule", STEPS)
def test_local_steps_are_taken_together_as_alone(rule):
    world = World(TOGETHER["mish"][0], 1)
    match = world.matcher(Projected(), local=STEPS[rule], label_weight=0.3)
    assert isinstance(match, TogetherMatcher)
    found, alone = (m(world.images, world.probabilities) for m in (match, match.alone))
    assert all(close(f, a) for f, a in zip(found[:4], alone[:4], strict=True))


@pytest.mark.usefixtures("few")
def test_local_steps_of_several_clients_are_taken_together_where_each_normalises_by_its_own_batch():
    world = World(TOGETHER["normed"][0], 4)
    match = world.matcher(Projected(), local=replace(STEPS["sgd"], clients=2), clients=2)
    assert isinstance(match, TogetherMatcher)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_derivative_through_local_steps_of_sgd_is_that_of_small_changes(batch):
    world = World(LAYERS["conv"], batch)
    match = world.matcher(Projected(), local=STEPS["sgd"])
    assert isinstance(match, AutogradMatcher)
    found = match(world.images, world.probabilities)
    along, small = torch.randn_like(world.images), 1e-5
    ahead, behind = (match(world.images + s * along, world.probabilities).distance for s in (small, -small))
    slope = (found.images * along).flatten(1).sum(1)
    assert torch.allclose((ahead - behind) / (2 * small), slope, rtol=1e-5)


@pytest.mark.parametrize("name", TOGETHER)
@pytest.mark.usefixtures("few")
def test_networks_without_rules_are_matched_together_only_where_that_is_right(name):
    network, right = TOGETHER[name]
    world = World(network, 1)
    match = world.matcher(label_weight=0.3, wanted=wanted(world))
    assert isinstance(match, TogetherMatcher if right else AutogradMatcher)
    if right:
        found, alone = (m(world.images, world.probabilities) for m in (match, match.alone))
        assert all(close(f, a) for f, a in zip(found[:4], alone[:4], strict=True))
        rows = torch.tensor([2, 0, 2])
        part = match.take(rows)(world.images[rows], world.probabilities[rows])
        assert all(close(p, w[rows], 1e-12) for p, w in zip(part[:3], found[:3], strict=True))


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("batch", [1, 2])
def test_victims_are_matched_one_by_one_where_together_they_come_out_wrong_or_gain_nothing(batch, monkeypatch):
    """As they may for a layer that ``vmap`` batches wrongly, and does not say so."""

    def wrong(*given):
        match = together(*given)
        return match._replace(images=match.images * (1 + 1e-4))

    network = TOGETHER["mish"][0]
    assert isinstance(World(network, batch).matcher(), TogetherMatcher if batch == 1 else AutogradMatcher)
    monkeypatch.setattr("privsweep.gradient_inversion.engine.together.together", wrong)
    assert isinstance(World(network, batch).matcher(), AutogradMatcher)


@pytest.mark.usefixtures("few")
def test_networks_of_large_layers_are_matched_one_by_one():
    network = stack(nn.Flatten(), nn.Linear(162, 200), nn.Mish(), nn.Linear(200, 3))
    assert isinstance(World(network, 1).matcher(), AutogradMatcher)


def test_few_victims_are_matched_one_by_one():
    assert isinstance(World(TOGETHER["mish"][0], 1).matcher(), AutogradMatcher)


class Reversed(nn.Sequential):
    """Children whose names do not say in which order they act."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in reversed(self):
            x = layer(x)
        return x


def test_a_network_that_is_no_plain_sequence_falls_back():
    world = World(Reversed(nn.Linear(5, 3), nn.Tanh(), nn.Linear(162, 5), nn.Flatten()), 2)
    match = world.matcher()
    assert isinstance(match, AutogradMatcher)
    assert agrees(world, match(world.images, world.probabilities), Squared())


@pytest.mark.parametrize("layers", ["max_pool", "residual_projected", "layer_norm"])
@pytest.mark.parametrize("fast", [True, False])
def test_victims_are_taken_in_any_order_and_number(fast, layers):
    world = World(LAYERS[layers], 2)
    match = world.matcher() if fast else world.matcher(loss=lambda out, y: cross_entropy(out, y))
    rows = torch.tensor([2, 0, 2])
    part = match.take(rows)(world.images[rows], world.probabilities[rows])
    whole = match(world.images, world.probabilities)
    assert all(close(p, w[rows], 1e-12) for p, w in zip(part[:3], whole[:3], strict=True))


@pytest.mark.parametrize("layer", [nn.Mish(), nn.GroupNorm(2, 4), nn.AdaptiveAvgPool2d(2), nn.Flatten(2)])
def test_layers_without_a_rule_are_known(layer):
    assert parameterless_rule(layer) is None


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("changes", [{"padding": "same", "kernel_size": 2}, {"padding_mode": "circular"}])
def test_unusual_convolutions_fall_back(changes):
    world = World(convolution(**changes), 1)
    match = world.matcher()
    assert isinstance(match, AutogradMatcher)
    assert agrees(world, match(world.images, world.probabilities), Squared())


@pytest.mark.parametrize("norm", [nn.LayerNorm(9), nn.LayerNorm((4, 9, 9), elementwise_affine=False)])
def test_layer_norms_over_part_of_an_image_or_without_weights_fall_back(norm):
    world = World(after_convolution(norm), 1)
    match = world.matcher()
    assert isinstance(match, AutogradMatcher)
    assert agrees(world, match(world.images, world.probabilities), Squared())


class TestFewPositions:
    """Convolutions with fewer positions than filters, whose residuals are never formed."""

    @pytest.mark.parametrize("sigma", [0, 1e-3])
    def test_clean_and_noisy_gradients_are_exact(self, sigma):
        world = World(LAYERS["conv_few_positions"], 1)
        world.target = {name: g + sigma * torch.randn_like(g) for name, g in world.target.items()}
        match = world.matcher(Projected())
        matrices = [type(r.target) for r in match.rules if isinstance(r, GramConv)]
        assert matrices == ([Whole, Whole] if sigma else [Factors, Factors])
        assert agrees(world, match(world.images, world.probabilities), Projected())

    def test_victims_can_be_taken(self):
        world = World(LAYERS["conv_few_positions"], 2)
        match, rows = world.matcher(), torch.tensor([2, 0, 2])
        part = match.take(rows)(world.images[rows], world.probabilities[rows])
        whole = match(world.images, world.probabilities)
        assert all(close(p, w[rows], 1e-12) for p, w in zip(part[:3], whole[:3], strict=True))


class TestMuchWork:
    """Convolutions whose patches would be many, one victim after the other."""

    def world(self) -> World:
        first = nn.Conv2d(2, 8, 3, padding=1)
        deep = (nn.Conv2d(8, 8, (5, 4), (2, 1), (2, 1)), nn.Tanh(), nn.Conv2d(8, 9, 3, bias=False), nn.Sigmoid())
        return World(stack(first, nn.Tanh(), *deep, nn.Flatten(), nn.LazyLinear(3)), 3)

    @pytest.mark.parametrize("only_nonzero", [False, True])
    @pytest.mark.parametrize("distance", [Squared(), Projected()], ids=["squared", "projected"])
    def test_they_equal_the_others(self, distance, only_nonzero, monkeypatch):
        world = self.world()
        world.target = {name: g * (torch.rand_like(g) < 0.5 if only_nonzero else 1) for name, g in world.target.items()}
        rows = torch.tensor([2, 0, 2])
        found = {}
        own = CompiledConv if compiled_for(torch.device("cpu"), torch.float64) else PatchConv
        for kind, least, code in ((PatchConv, 2**30, False), (VictimwiseConv, 1, True), (own, 2**30, True)):
            monkeypatch.setattr("privsweep.gradient_inversion.engine.rule_conv.MANY_PATCH_ENTRIES", least)
            with compiled(code):
                match = world.matcher(distance, only_nonzero=only_nonzero)
            assert sum(type(rule) is kind for rule in match.rules) >= 2
            found[kind] = (
                match(world.images, world.probabilities),
                match.take(rows)(world.images[rows], world.probabilities[rows]),
            )
        assert only_nonzero or agrees(world, found[VictimwiseConv][0], distance)
        for kind in found:
            for one, other in zip(found[PatchConv], found[kind], strict=True):
                assert all(close(a, b) for a, b in zip(one[:3], other[:3], strict=True))


class TestWideLinear:
    """Layers wide enough for factors instead of matrices."""

    def world(self, batch: int) -> World:
        net = stack(nn.Flatten(), nn.Linear(162, 250), nn.Sigmoid(), nn.Linear(250, 140), nn.Tanh(), nn.Linear(140, 3))
        return World(net, batch)

    @pytest.mark.parametrize("distance", [Squared(), Projected()], ids=["squared", "projected"])
    @pytest.mark.parametrize("batch", [1, 4])
    def test_factors_are_exact(self, batch, distance):
        world = self.world(batch)
        match = world.matcher(distance)
        assert [type(r.target) for r in match.rules if isinstance(r, GramLinear)] == [Factors, Factors]
        assert agrees(world, match(world.images, world.probabilities), distance)

    def test_a_noisy_gradient_is_only_nonzero_whole(self):
        world = self.world(1)
        world.target = {name: g + 1e-3 * torch.randn_like(g) for name, g in world.target.items()}
        match = world.matcher()
        assert [type(r.target) for r in match.rules if isinstance(r, GramLinear)] == [Whole, Whole]
        assert agrees(world, match(world.images, world.probabilities), Squared())

    def test_the_factors_of_a_sum_of_outer_products(self):
        torch.manual_seed(0)
        matrices = torch.randn(5, 60, 3, dtype=torch.float64) @ torch.randn(5, 3, 80, dtype=torch.float64)
        factors = factorise(matrices, 3)
        assert factors is not None
        assert close(factors.left @ factors.right.mT, matrices, 1e-13)
        assert close(factors.squared_norm, matrices.square().sum((1, 2)), 1e-13)
        assert factorise(matrices, 0) is None


@pytest.mark.parametrize("name", ["lenet_dlg", "mlp"])
def test_the_distance_of_the_true_images_is_zero_to_rounding_in_float32(name):
    """What remains is no more than what differentiating twice leaves: losses go to 0 in an attack."""
    model = (MODELS | {"mlp": MLP(width=250, depth=2, activation="tanh", dropout=0.0, init="default", init_bound=0.5)})[
        name
    ]
    world = World(model.build(DOMAIN, Rng(0)), 1)
    world.model.float()
    weights = {n: w.float() for n, w in world.weights.items()}
    truth = world.truth.float()
    one_hot = torch.nn.functional.one_hot(world.labels, 3).float()
    grads = [world.gradient(x, y) for x, y in zip(truth, world.labels, strict=True)]
    names = list(world.target)
    target = {n: torch.stack(g) for n, g in zip(names, zip(*grads, strict=True), strict=True)}
    norm2 = sum(g.flatten(1).square().sum(1) for g in target.values())
    activations = batch_activations(world.model, tuple(truth.shape[1:]))
    match = matcher(world.model, weights, target, Squared(), activations)
    assert isinstance(match, TangentMatcher)
    assert (match(truth, one_hot).distance <= 1e-12 * norm2).all()
