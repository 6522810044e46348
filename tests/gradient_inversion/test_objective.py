"""Distances, penalties and noise of gradient matching against plain autograd, in float64."""

from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cosine_similarity, cross_entropy, one_hot

from privsweep.defense.precode import Precode
from privsweep.gradient_inversion.engine.autograd import AutogradMatcher
from privsweep.gradient_inversion.engine.distance import Cosine, Squared
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.gradient_inversion.engine.tangent import TangentMatcher
from privsweep.gradient_inversion.model_noise import NoiseStreams, noise_shapes, of_deterministic_layers
from privsweep.gradient_inversion.objective import MatchingObjective
from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng, seeded
from privsweep.minimisation.total_variation import add_total_variation
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.model.resnet import ResNet
from privsweep.model.stochastic import Reparametrised, draw
from privsweep.model.variational_bottleneck import Bottleneck
from privsweep.training.local import gradient

DOMAIN = Domain((2, 8, 8), 3, (0.0,) * 2, (1.0,) * 2)
VICTIMS = 3
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
ARCHITECTURES = {
    "lenet": ConvNet(**CONV, pooling="max", norm="none", activation="relu", init="default", init_bound=0.5),
    "lenet_dlg": ConvNet(**CONV, pooling="stride", norm="none", activation="sigmoid", init="uniform", init_bound=0.5),
    "average": ConvNet(**CONV, pooling="average", norm="none", activation="tanh", init="default", init_bound=0.5),
    "group": ConvNet(**CONV, pooling="max", norm="group", activation="tanh", init="default", init_bound=0.5),
    "mlp": MLP(width=16, depth=2, activation="relu", dropout=0.0, init="default", init_bound=0.5),
    "wide": MLP(width=260, depth=1, activation="tanh", dropout=0.0, init="default", init_bound=0.5),
    "resnet": ResNet(blocks=(1, 1), width=4, stem="small", norm="batch", activation="tanh", init="he"),
}
PLAIN = {
    "squared": lambda own, goal: (own - goal).square().sum(),
    "cosine": lambda own, goal: 1 - cosine_similarity(own, goal, dim=0),
}
OURS = {"squared": Squared(), "cosine": Cosine()}


class Scattered(Reparametrised):
    """A stochastic layer of a user's: no encoder, a deviation that is an exponential, two layers to decode."""

    def __init__(self, features: int):
        super().__init__(features // 2)
        self.encoder = nn.Identity()
        self.decoder = nn.Sequential(OrderedDict(first=nn.Linear(features // 2, 5), act=nn.Tanh()))

    def deviation(self, raw: Tensor) -> Tensor:
        return (0.1 * raw).exp()

    def deviation_derivatives(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        return 0.1 * self.deviation(raw), 0.01 * self.deviation(raw)

    def forward(self, x: Tensor) -> Tensor:
        mean, raw = x.chunk(2, 1)
        return self.decoder(mean + self.deviation(raw) * self.noise)


class UsersOwn:
    """With that layer between linear ones."""

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        body = {"flatten": nn.Flatten(), "fc": nn.Linear(128, 8), "scattered": Scattered(8)}
        with seeded(rng):
            return nn.Sequential(OrderedDict(**body, output=nn.Linear(5, domain.classes)))


class Unusual:
    """With a layer that has no rule."""

    def build(self, domain: Domain, rng: Rng) -> nn.Sequential:
        body = {"conv1": nn.Conv2d(2, 4, 3), "norm1": nn.InstanceNorm2d(4, affine=True), "act1": nn.Tanh()}
        with seeded(rng):
            return nn.Sequential(OrderedDict(**body, flatten=nn.Flatten(), output=nn.Linear(144, domain.classes)))


MODELS = ARCHITECTURES | {"unusual": Unusual(), "users_own": UsersOwn()}


class World:
    """Victims of a network, and the objective as one would write it for one of them."""

    def __init__(self, name: str, batch: int, precode: bool = False, sigma: float = 0.0, pruned: float = 0.0):
        rng = Rng(0, (name, batch))
        net = MODELS[name].build(DOMAIN, rng.child("init")).double()
        defense = Precode(k=5, beta=1e-3)
        self.model = defense.model(net, rng.child("defense")).double() if precode else net
        self.batch, self.precode = batch, precode
        loss = defense.loss(cross_entropy) if precode else cross_entropy
        truth = rng.child("truth").normal(VICTIMS, batch, *DOMAIN.shape).double().sigmoid()
        self.labels = rng.child("labels").permutation(VICTIMS * batch).view(VICTIMS, batch) % 3
        grads = [
            gradient(self.model, loss, x, y, Precode(k=5, beta=0), rng.child(v))[0]
            for v, (x, y) in enumerate(zip(truth, self.labels, strict=True))
        ]
        self.target = {n: torch.stack([g[n] for g in grads]) for n in grads[0]}
        for n, g in self.target.items():
            g += sigma * rng.child("sigma", n).normal(*g.shape)
            g *= rng.child("pruned", n).normal(*g.shape).abs() >= pruned
        self.images = rng.child("images").normal(*truth.shape).double()
        self.given = one_hot(self.labels, 3).double()
        self.weights = {n: w.detach().clone() for n, w in self.model.state_dict().items()}
        drawn = [draw(self.model, batch, rng.child("drawn", v), truth.device) for v in range(VICTIMS)]
        self.noise = {n: torch.stack([d[n] for d in drawn]) for n in drawn[0]}

    def matcher(self, distance: str, **changes):
        target = changes.pop("target", self.target)
        activations = batch_activations(self.model, tuple(self.images.shape[1:]))
        return matcher(self.model, self.weights, target, OURS[distance], activations, **changes)

    def plain(
        self,
        v: int,
        x: Tensor,
        y: Tensor,
        noise,
        distance: str,
        tv=0.0,
        label=0.0,
        only_nonzero=False,
        names=None,
        beta=0.0,
    ):
        everything = functional_call(self.model, {n: e[v] for n, e in noise.items()}, (x,))
        outputs = everything[:, :3]
        loss = cross_entropy(outputs, y) + (beta * everything[:, 3].mean() if beta else 0)
        parameters = {n: p for n, p in self.model.named_parameters() if names is None or n in names}
        own = torch.autograd.grad(loss, list(parameters.values()), create_graph=True, allow_unused=True)
        mine = torch.cat([g.flatten() for g in own])
        goal = torch.cat([self.target[n][v].flatten() for n in parameters])
        if only_nonzero:
            mine = mine * (goal != 0)
        down, right = (x.diff(dim=d).abs().mean() for d in (-2, -1))
        return PLAIN[distance](mine, goal) + tv * (down + right) + label * (outputs.softmax(1) - y).square().sum()

    def agrees(self, ours, distance: str, noise=None, **terms) -> bool:
        """Values and every derivative, victim by victim."""
        objective = MatchingObjective(ours, self.images.shape[1:], 3, tv_weight=terms.get("tv", 0.0))
        logits = 0.5 * self.given
        point = torch.cat((self.images.flatten(1), logits.flatten(1)), 1)
        if noise is not None:
            optimised = noise_shapes(self.model, self.batch)
            objective = MatchingObjective(ours, self.images.shape[1:], 3, None, terms.get("tv", 0.0), None, optimised)
            point = torch.cat((point, *(e.flatten(1) for e in noise.values())), 1)
        value, slope, _ = objective(point)
        for v in range(VICTIMS):
            x, z = self.images[v].clone().requires_grad_(True), logits[v].clone().requires_grad_(True)
            leaves = {n: e.clone().requires_grad_(True) for n, e in (noise or {}).items()}
            expected = self.plain(v, x, z.softmax(1), leaves, distance, **terms)
            by = torch.autograd.grad(expected, (x, z, *leaves.values()))
            flat = torch.cat([by[0].flatten(), by[1].flatten(), *(g[v].flatten() for g in by[2:])])
            if abs(value[v] - expected) > 1e-10 * abs(expected) or (slope[v] - flat).norm() > 1e-9 * flat.norm():
                return False
        return True


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("distance", OURS)
@pytest.mark.parametrize("name", MODELS)
def test_distance_total_variation_and_label_term_equal_autograd(name, distance, batch):
    world = World(name, batch)
    ours = world.matcher(distance, label_weight=0.3)
    assert isinstance(ours, AutogradMatcher if name == "unusual" else TangentMatcher)
    assert world.agrees(ours, distance, tv=0.2, label=0.3)


@pytest.mark.parametrize("changes", [{"sigma": 0.01}, {"pruned": 0.5}])
@pytest.mark.parametrize("distance", OURS)
@pytest.mark.parametrize("name", ["lenet", "wide"])
def test_perturbed_gradients_equal_autograd(name, distance, changes):
    world = World(name, 2, **changes)
    assert world.agrees(world.matcher(distance), distance)


@pytest.mark.parametrize("distance", OURS)
@pytest.mark.parametrize("name", ["lenet", "wide", "group", "unusual"])
def test_only_what_pruning_left_is_matched_on_request(name, distance):
    world = World(name, 2, pruned=0.5)
    assert world.agrees(world.matcher(distance, only_nonzero=True), distance, only_nonzero=True)


class TestStochastic:
    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("distance", OURS)
    @pytest.mark.parametrize("name", ["lenet", "wide", "group", "unusual"])
    def test_the_bottleneck_equals_autograd_down_to_the_noise(self, name, distance, batch):
        world = World(name, batch, precode=True)
        ours = world.matcher(distance, label_weight=0.3)
        assert isinstance(ours, AutogradMatcher if name == "unusual" else TangentMatcher)
        assert world.agrees(ours, distance, world.noise, tv=0.2, label=0.3)

    @pytest.mark.parametrize("batch", [1, 3])
    @pytest.mark.parametrize("distance", OURS)
    @pytest.mark.parametrize("name", ["lenet", "wide", "unusual"])
    def test_the_divergence_takes_part_where_the_clients_loss_is_matched(self, name, distance, batch):
        world = World(name, batch, precode=True)
        ours = world.matcher(distance, loss=Precode(k=5, beta=0.3).loss(cross_entropy), label_weight=0.3)
        assert isinstance(ours, AutogradMatcher if name == "unusual" else TangentMatcher)
        assert world.agrees(ours, distance, world.noise, tv=0.2, label=0.3, beta=0.3)

    def test_a_term_whose_derivatives_nobody_gives_is_differentiated(self):
        world = World("mlp", 2, precode=True)
        world.model.bottleneck.term_derivatives = lambda encoded: None
        assert isinstance(world.matcher("squared", loss=Precode(k=5, beta=0.3).loss(cross_entropy)), AutogradMatcher)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_derivatives_of_the_divergence_are_finite_and_right_where_the_deviation_vanishes(self, dtype):
        layer = Bottleneck(3, 4).to(dtype)
        layer.encoder, layer.decoder = nn.Identity(), nn.Identity()
        raw = torch.tensor([[-60.0, -3.0, 0.5, 30.0]], dtype=dtype)
        encoded = torch.cat((raw.flip(1), raw), 1).requires_grad_(True)
        (first,) = torch.autograd.grad(layer(encoded)[:, -1].sum(), encoded, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), encoded)
        ours = layer.term_derivatives(encoded.detach())
        torch.testing.assert_close(ours[0], first.detach())
        torch.testing.assert_close(ours[1][:, 1:4], second[:, 1:4])
        torch.testing.assert_close(ours[1][:, 5:], second[:, 5:], rtol=1e-3, atol=1e-6)
        far = layer.term_derivatives(torch.full((1, 8), -1e4, dtype=dtype))
        assert all(t.isfinite().all() for t in (*ours, *far))

    @pytest.mark.parametrize("distance", OURS)
    def test_another_sampling_layer_takes_part_by_what_it_says_of_itself(self, distance):
        world = World("users_own", 2)
        ours = world.matcher(distance)
        assert isinstance(ours, TangentMatcher)
        assert world.agrees(ours, distance, world.noise)

    def test_layers_that_are_left_out_pull_nowhere(self):
        world = World("mlp", 2, precode=True)
        names = list(of_deterministic_layers(world.model, world.target))
        assert names == [f"fc{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
        ours = world.matcher("cosine", target={n: world.target[n] for n in names})
        assert isinstance(ours, TangentMatcher)
        assert world.agrees(ours, "cosine", world.noise, names=names)

    def test_without_noise_it_is_the_mean(self):
        world = World("mlp", 2, precode=True)
        none = {n: torch.zeros_like(e) for n, e in world.noise.items()}
        ours = world.matcher("cosine")
        expected = ours(world.images, world.given, none)
        torch.testing.assert_close(ours(world.images, world.given).images, expected.images)

    def test_both_ways_draw_and_answer_alike(self):
        world = World("mlp", 2, precode=True)
        fast = world.matcher("cosine")
        slow = AutogradMatcher(world.model, world.weights, world.target, Cosine(), cross_entropy)
        for f, s in zip(
            fast(world.images, world.given, world.noise)[:4], slow(world.images, world.given, world.noise)[:4],
            strict=True,
        ):  # fmt: skip
            torch.testing.assert_close(f, s)


@pytest.mark.parametrize("name", ["mlp", "group"])
def test_several_noise_samples_are_the_mean_of_that_many_evaluations(name):
    world = World(name, 2, precode=True)
    victims = [Rng(0).child("victim", v) for v in range(len(world.images))]
    shapes = noise_shapes(world.model, 2)

    def objective(samples: int) -> MatchingObjective:
        streams = NoiseStreams(shapes, victims, world.images[:0])
        return MatchingObjective(
            world.matcher("cosine"), world.images.shape[1:], 10, world.given, 0.1, streams, noise_samples=samples
        )

    x, one = world.images.flatten(1), objective(1)
    each = [one(x, *one.draw()) for _ in range(4)]
    assert (each[0].value != each[1].value).all()
    for four in (objective(4), objective(4).take(torch.arange(len(x)))):
        together = four(x, *four.draw())
        for got, parts in zip(together, zip(*each, strict=True), strict=True):
            torch.testing.assert_close(got, torch.stack(parts).mean(0))


SHAPES = {"a.noise": (2, 3)}


class TestNoiseStreams:
    def streams(self, *victims: int) -> NoiseStreams:
        return NoiseStreams(SHAPES, [Rng(0).child("victim", v) for v in victims], torch.zeros(1))

    def test_every_evaluation_has_new_noise_and_every_victim_its_own(self):
        streams = self.streams(0, 1)
        draws = torch.stack([streams.draw()["a.noise"] for _ in range(70)])
        assert draws.shape == (70, 2, 2, 3)
        assert len(draws.flatten().unique()) == draws.numel()
        assert abs(draws.mean()) < 0.2

    def test_a_victim_draws_the_same_alone_and_after_others_are_done(self):
        together, alone = self.streams(0, 1, 2), self.streams(2)
        for evaluation in range(80):
            if evaluation == 40:
                together = together.take(torch.tensor([0, 2]))
            torch.testing.assert_close(together.draw()["a.noise"][-1], alone.draw()["a.noise"][0])


class TestCosine:
    def test_it_keeps_its_precision_where_an_attack_succeeds(self):
        torch.manual_seed(0)
        goal = torch.randn(1000, dtype=torch.float64)
        own = goal + 1e-6 * torch.randn_like(goal)
        e = own - goal
        exact = ((e @ e) * (goal @ goal) - (e @ goal) ** 2) / (2 * (goal @ goal) ** 2)
        single = [t.float()[None] for t in (e @ e, e @ goal, goal @ goal)]
        torch.testing.assert_close(Cosine().value(*single).double()[0], exact, rtol=1e-4, atol=0)

    @pytest.mark.parametrize("scale", [0.0, 1e-25])
    def test_a_gradient_of_norm_zero_is_far_and_pulls_nowhere(self, scale):
        n = torch.tensor([4.0, 0.0])
        r, h = (scale - 1) ** 2 * n, (scale - 1) * n
        assert torch.equal(Cosine().value(r, h, n), torch.ones(2))
        value, *factors = Cosine().with_factors(r, h, n)
        assert torch.equal(value, torch.ones(2))
        assert all(torch.equal(f.abs(), torch.zeros(2)) for f in factors)

    @pytest.mark.parametrize("turn", [1.0, -1.0, 0.2])
    def test_opposite_gradients_are_at_distance_two(self, turn):
        goal = torch.tensor([3.0, 4.0], dtype=torch.float64)
        own = 2 * turn * goal + (1 - abs(turn)) * torch.tensor([-4.0, 3.0], dtype=torch.float64)
        e = own - goal
        found = Cosine().value(*((p @ q)[None] for p, q in ((e, e), (e, goal), (goal, goal))))
        torch.testing.assert_close(found[0], 1 - cosine_similarity(own, goal, dim=0))


def test_total_variation_of_single_rows_and_columns():
    for shape in ((2, 1, 1, 1, 5), (2, 1, 1, 5, 1), (2, 1, 1, 1, 1)):
        images, slope = torch.randn(shape), torch.zeros(shape)
        total = add_total_variation(images, 2.0, slope)
        steps = [images.diff(dim=d).abs().flatten(1) for d in (-2, -1)]
        expected = sum(2.0 * s.mean(1) for s in steps if s.shape[1]) + torch.zeros(2)
        torch.testing.assert_close(total, expected)
        assert slope.sum().abs() < 1e-5


def test_modules_stay_as_they_were():
    world = World("mlp", 1, precode=True)
    before = {n: b.clone() for n, b in nn.Module.state_dict(world.model).items()}
    world.matcher("squared")(world.images, world.given, world.noise)
    assert all(torch.equal(before[n], b) for n, b in world.model.state_dict().items())
