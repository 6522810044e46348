"""Soteria: columns of one dense layer's gradient, and what an attacker who knows of them still sees."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from privsweep.defense.soteria import Soteria
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.training.local import gradient

CLASSES = 5


def small(*between: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3, stride=2), *between, nn.ReLU(), nn.Flatten(), nn.Linear(36, CLASSES)]
    return nn.Sequential(*layers)


def images(count: int) -> Tensor:
    return Rng(1).normal(count, 1, 8, 8)


def defended(net: nn.Module, x: Tensor, **changes: Any) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradient without and with it."""
    soteria = Soteria(**({"fraction": 0.5, "layer": None} | changes))
    y = torch.arange(len(x)) % CLASSES
    plain, _ = gradient(net, nn.CrossEntropyLoss(), x, y, Defense(), Rng(2))
    out, _ = gradient(net, nn.CrossEntropyLoss(), x, y, soteria, Rng(2))
    return plain, out


def told(net: nn.Sequential, x: Tensor) -> Tensor:
    """Of every feature, by one derivative after the other, what its quotients are on average; infinity without any."""
    x = x.clone().requires_grad_()
    features = net[:-1](x)
    means = []
    for f in range(features.shape[1]):
        (moved,) = torch.autograd.grad(features[:, f].sum(), x, retain_graph=True)
        has = features[:, f] != 0
        each = moved.flatten(1).norm(dim=1)[has] / features[has, f].abs()
        means.append(each.mean() if len(each) else torch.tensor(torch.inf))
    return torch.stack(means).detach()


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("between", [(), (nn.BatchNorm2d(4),)], ids=["plain", "batch norm"])
def test_the_columns_of_the_features_that_tell_most_are_zero_and_nothing_else_is(
    count: int, between: tuple[nn.Module, ...]
) -> None:
    net, x = small(*between), images(count)
    plain, out = defended(net, x)
    [weight] = [name for name, g in plain.items() if g.shape == (CLASSES, 36)]
    least = told(net, x).argsort()[:18]
    kept = [f for f in range(36) if f not in least]
    assert out[weight][:, least].count_nonzero() == 0
    assert torch.equal(out[weight][:, kept], plain[weight][:, kept])
    assert all(torch.equal(out[name], g) for name, g in plain.items() if name != weight)


def test_a_feature_that_no_image_has_is_not_pruned_for_another() -> None:
    """Under ReLU its column is zero already."""
    net, x = small(), images(1)
    alive = int((net[:-1](x) != 0).sum())
    _, out = defended(net, x, fraction=alive / 36)
    assert out["3.weight"].count_nonzero() == 0


def test_running_statistics_take_one_step_and_the_network_stays_as_it_is() -> None:
    net, x = small(nn.BatchNorm2d(4)), images(4)
    other = small(nn.BatchNorm2d(4))
    defended(net, x)
    for _ in range(2):
        other(x)
    assert all(torch.equal(a, b) for a, b in zip(net.state_dict().values(), other.state_dict().values(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in net.parameters())


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_nothing_or_everything_may_be_pruned(fraction: float) -> None:
    plain, out = defended(small(), images(2), fraction=fraction)
    assert torch.equal(out["3.weight"], plain["3.weight"] * (1 - fraction))


def test_a_perceptron_is_defended_behind_its_first_layer_unless_another_is_named() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, CLASSES))
    plain, out = defended(net, images(1))
    assert [name for name in plain if not torch.equal(plain[name], out[name])] == ["3.weight"]
    plain, out = defended(net, images(1), layer="5")
    assert [name for name in plain if not torch.equal(plain[name], out[name])] == ["5.weight"]


@pytest.mark.parametrize(
    ("net", "layer", "said"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES)), None, "the model has none"),
        (small(), "0", "none of the model's dense layers, 3"),
        (nn.Sequential(nn.Conv2d(1, CLASSES, 8), nn.Flatten()), "fc", "the model has none"),
        (nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, CLASSES)), None, "the model reads words"),
    ],
)
def test_a_model_without_such_a_layer_is_refused(net: nn.Module, layer: str | None, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Soteria(fraction=0.5, layer=layer).model(net, Rng(0))


def test_where_nobody_asks_for_single_gradients_it_is_refused_though_it_looks_at_the_model() -> None:
    assert Soteria(fraction=0.5, layer=None).acts_at() == {"batch_gradient"}


def test_a_layer_that_takes_several_vectors_an_image_is_passed_over_and_refused_where_it_is_named() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 6), nn.Flatten(), nn.Linear(144, CLASSES))
    plain, out = defended(net, images(1))
    assert [name for name in plain if not torch.equal(plain[name], out[name])] == ["3.weight"]
    with pytest.raises(UserError, match=r"layer=1: takes several vectors of an image, 4x6x6; name a dense layer"):
        defended(net, images(1), layer="1")
    with pytest.raises(UserError, match=r"soteria: every dense layer takes several vectors of an image, 4x6x6"):
        defended(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(6, 6), nn.Linear(6, 6), nn.Flatten()), images(1))
