"""torchvision's networks, whose layers behave as the package's own: no hidden noise, nothing in place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision import models
from torchvision.ops import StochasticDepth

from privsweep.defense.precode import Precode
from privsweep.gradient_inversion.engine.distance import Cosine
from privsweep.gradient_inversion.engine.matcher import matcher
from privsweep.gradient_inversion.engine.memory import batch_activations
from privsweep.interface.data import Domain
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.split_at import cut
from privsweep.model.stochastic import draw, forward, noise_layers
from privsweep.model.torchvision_model import TorchvisionModel
from privsweep.training.local import gradient, weights_of
from privsweep.training.per_example import example_gradients

SMALL = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "resnet18", "efficientnet_b0")


def domain(side: int = 32, channels: int = 3) -> Domain:
    return Domain((channels, side, side), 7, (0.0,) * channels, (1.0,) * channels)


def build(name: str, side: int = 32, channels: int = 3, seed: int = 0) -> nn.Module:
    return TorchvisionModel(name=name).build(domain(side, channels), Rng(seed))


@pytest.mark.parametrize("name", SMALL)
def test_in_evaluation_it_is_torchvisions_network(name: str) -> None:
    theirs = models.get_model(name, weights=None, num_classes=7).eval()
    ours = build(name).eval()
    theirs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(ours(x), theirs(x))


def test_grey_images_are_answered_as_three_equal_channels() -> None:
    grey, colour = build("resnet18", channels=1).eval(), build("resnet18").eval()
    x = torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(grey(x), colour(x.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("name", SMALL)
def test_all_noise_is_an_input(name: str) -> None:
    model = build(name).train()
    kinds = (nn.modules.dropout._DropoutNd, StochasticDepth)
    assert not [layer for layer in model.modules() if isinstance(layer, kinds)]
    assert not [layer for layer in model.modules() if getattr(layer, "inplace", False)]
    x = torch.rand(4, 3, 32, 32)
    one, again, other = (draw(model, 4, Rng(seed), x.device) for seed in (1, 1, 2))
    assert torch.equal(forward(model, one, x), forward(model, again, x))
    assert torch.equal(forward(model, one, x), forward(model, other, x)) == (not noise_layers(model))


def test_stochastic_depth_drops_whole_branches_of_single_examples() -> None:
    model = build("efficientnet_b0")
    name, layer = next((n, noise) for n, noise in noise_layers(model).items() if "stochastic_depth" in n)
    assert name == "features.2.1.stochastic_depth.noise"
    layer.train()
    layer.noise = torch.tensor([-9.0, 9.0]).view(2, 1, 1, 1)
    out = layer(torch.ones(2, 5, 3, 3))
    assert (out[0] == 0).all()
    assert (out[1] > 1).all()


@pytest.mark.parametrize("name", SMALL)
def test_its_gradient_is_matched_and_followed(name: str) -> None:
    """The matcher's derivative agrees with a difference; the squeeze's hard sigmoid can be differentiated twice."""
    model = build(name).double().eval()
    x, y = torch.rand(1, 3, 32, 32, dtype=torch.float64), torch.tensor([3])
    captured, _ = gradient(model, cross_entropy, x, y, Defense(), Rng(0))
    target = {n: g[None] for n, g in captured.items()}
    match = matcher(model, weights_of(model), target, Cosine(), batch_activations(model, tuple(x.shape)))
    label = torch.eye(7, dtype=torch.float64)[y][None]
    assert match(x[None], label).distance.item() == pytest.approx(0, abs=1e-10)
    start, way = torch.rand(2, 1, 1, 3, 32, 32, dtype=torch.float64)
    found = match(start, label)
    step = 1e-6
    ends: list[Tensor] = [match(start + s * step * way, label).distance for s in (1, -1)]
    slope = ((ends[0] - ends[1]) / (2 * step)).item()
    assert (found.images * way).sum().item() == pytest.approx(slope, rel=1e-3, abs=1e-7)


def test_one_gradient_an_example() -> None:
    model = build("squeezenet1_1").train()
    x, y = torch.rand(3, 3, 32, 32), torch.tensor([1, 2, 3])
    noise = draw(model, 3, Rng(0), x.device)
    each, _ = example_gradients(model, cross_entropy, x, y, noise)
    whole, _ = gradient(model, cross_entropy, x, y, Defense(), Rng(5))
    assert noise.keys() == noise_layers(model).keys() != set()
    assert all(each[n].shape == (3, *whole[n].shape) for n in whole)


def test_an_unknown_name_is_refused_with_close_ones() -> None:
    with pytest.raises(UserError, match=r"^model\.name=mobilenet-v3: .*did you mean mobilenet_v"):
        TorchvisionModel(name="mobilenet-v3")
    with pytest.raises(UserError, match=r"there are alexnet, .*wide_resnet50_2$"):
        TorchvisionModel(name="?")


@pytest.mark.parametrize(
    ("name", "side", "remedy"),
    [("alexnet", 32, 64), ("vgg11", 8, 32), ("vit_b_32", 32, 224), ("densenet121", 28, 32)],
)
def test_images_that_do_not_fit_are_refused_with_a_size_that_does(name: str, side: int, remedy: int) -> None:
    line = rf"^model\.name={name}: does not fit images of {side}x{side} pixels; set dataset\.resize={remedy}, or"
    with pytest.raises(UserError, match=line):
        build(name, side)
    with torch.device("meta"):
        build(name, remedy)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_auxiliary_outputs_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=rf"^model\.name={name}: answers with auxiliary outputs"):
        build(name)


def test_channels_that_are_neither_grey_nor_colour() -> None:
    with pytest.raises(UserError, match=r"1 or 3 channels, not 4; set dataset\.channels=rgb"):
        build("resnet18", channels=4)


def test_widths_computed_with_tensors_are_checked_without_memory_too() -> None:
    with torch.device("meta"):
        assert all(p.is_meta for p in build("regnet_y_400mf").parameters())


def test_what_must_cut_it_asks_for_a_sequence() -> None:
    model = build("mobilenet_v3_small")
    with pytest.raises(UserError, match=r"^fl_setting\.cut=features: the model is no sequence of layers"):
        cut(model, "features")
    with pytest.raises(UserError, match=r"^defense=precode: .*choose another model, such as model=lenet"):
        Precode(k=4, beta=0.1).model(model, Rng(0))


def test_it_runs_from_the_command_line(privsweep, capsys) -> None:  # type: ignore[no-untyped-def]
    given = ["model=torchvision", "model.name=shufflenet_v2_x0_5", "dataset.train_size=60", "dataset.test_size=20",
             "fl_setting.victims=1", "scale=smoke", "attack.iterations=2", "fl_setting.labels_known=true"]  # fmt: skip
    assert privsweep(*given, "attack=iga", tiny=False) == 2
    assert "fl_setting.capture.mode=eval" in capsys.readouterr().err
    assert privsweep(*given, "attack=iga", "fl_setting.capture.mode=eval", tiny=False) == 0
    assert privsweep(*given, "model.name=shufflenet", "attack=none", tiny=False) == 2
