import torch
from torch import Tensor, nn
from torch.func import vmap

from privsweep.interface.randomness import Rng
from privsweep.model.perturbation import NoiseCollection
from privsweep.model.stochastic import Stochastic, draw, forward, noise_layers

CPU = torch.device("cpu")


class Jitter(Stochastic):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.noise


def net() -> nn.Sequential:
    return nn.Sequential(Jitter(3), nn.Sequential(nn.ReLU(), Jitter(3)))


def test_without_noise_a_layer_is_deterministic_and_noise_is_never_stored() -> None:
    model, x = net(), torch.rand(4, 3)
    assert torch.equal(model(x), x)
    assert not model.state_dict()
    assert model.double()[0].noise.dtype == torch.float64


def test_noise_is_for_one_forward_and_stands_in_by_name() -> None:
    model, x = net(), torch.rand(4, 3)
    assert list(noise_layers(model)) == ["0.noise", "1.1.noise"]
    assert list(noise_layers(Jitter(2))) == ["noise"]
    noise = draw(model, 4, Rng(0), CPU)
    expected = (x + noise["0.noise"]).relu() + noise["1.1.noise"]
    assert torch.equal(forward(model, noise, x), expected)
    assert torch.equal(model(x), x)


def test_every_layer_example_and_stream_has_noise_of_its_own() -> None:
    one, other = draw(net(), 4, Rng(0), CPU), draw(net(), 4, Rng(1), CPU)
    values = torch.cat([n.flatten() for n in (*one.values(), *other.values())])
    assert len(values.unique()) == len(values) == 48
    wide = draw(Jitter(100_000), 1, Rng(0), CPU)["noise"]
    assert abs(wide.mean()) < 0.02
    assert abs(wide.std() - 1) < 0.02


def test_float64_layers_draw_the_numbers_of_float32_ones() -> None:
    single, double = draw(net(), 4, Rng(0), CPU), draw(net().double(), 4, Rng(0), CPU)
    assert all(torch.equal(single[name].double(), noise) for name, noise in double.items())


def test_a_deterministic_model_draws_nothing() -> None:
    model, x = nn.Linear(3, 2), torch.rand(4, 3)
    noise = draw(model, 4, Rng(0), CPU)
    assert noise == {}
    assert torch.equal(forward(model, noise, x), model(x))


def test_replicas_bring_noise_of_their_own() -> None:
    model, x = net(), torch.rand(2, 4, 3)
    each = [draw(model, 4, Rng(seed), CPU) for seed in range(2)]
    stacked = {name: torch.stack([n[name] for n in each]) for name in each[0]}
    out = vmap(lambda noise, x: forward(model, noise, x))(stacked, x)
    assert torch.equal(out, torch.stack([forward(model, n, v) for n, v in zip(each, x, strict=True)]))


def test_noise_of_a_collection_is_imitated_by_its_numbers_drawn_anew_for_every_feature() -> None:
    noises, x = torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]), torch.zeros(3000, 3)
    layer = NoiseCollection(noises, None).imitated()
    assert torch.equal(layer(x), x)
    added = forward(nn.Sequential(layer), draw(nn.Sequential(layer), len(x), Rng(0), CPU), x)
    values, counts = added.unique(return_counts=True)
    assert values.tolist() == noises.flatten().tolist()
    assert (counts / added.numel() - 1 / 6).abs().max() < 0.02
