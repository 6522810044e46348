"""Every choice of the model group: shapes, sizes, names, seeds, refusals."""

import importlib
import math
from pathlib import Path
from typing import get_args

import pytest
import torch
import yaml
from pydantic import ValidationError
from torch import nn

from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.blocks import Activation, activation
from privsweep.model.split_at import cut

CONF = Path(__file__).parents[2] / "conf" / "model"
TEXT = {"translation_transformer"}  # see test_translation_transformer
PRESETS = sorted({p.stem for p in CONF.glob("*.yaml")} - TEXT)
DIGITS, GRAY, COLOUR, LARGE = (1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 64, 64)
RNG = Rng(0, ("model",))


def choice(name, **changes):
    fields = yaml.safe_load((CONF / f"{name}.yaml").read_text()) | changes
    assert fields.pop("weights") is None  # every choice may start from a checkpoint, which is not the class's affair
    return made(fields)


def made(fields):
    inner = {key: made(value) for key, value in fields.items() if isinstance(value, dict)}
    module, _, cls = fields["_target_"].rpartition(".")
    return getattr(importlib.import_module(module), cls)(**{k: v for k, v in fields.items() if k != "_target_"} | inner)


def domain(shape, classes=10):
    return Domain(shape, classes, (0.0,) * shape[0], (1.0,) * shape[0])


def build(name, shape=COLOUR, classes=10, rng=RNG, **changes):
    return choice(name, **changes).build(domain(shape, classes), rng)


def count(model):
    return sum(p.numel() for p in model.parameters())


def test_the_presets_are_those_we_know():
    names = "alexnet dmlp imprint_module informed_cnn informed_mlp lenet lenet_dlg resnet18 smlp torchvision vgg16 vit"
    assert " ".join(PRESETS) == names


# 28x28 cannot be halved five times
USUAL = [(n, s) for n in PRESETS for s in (GRAY, COLOUR, LARGE) if (n, s) != ("vgg16", GRAY)]


@pytest.mark.parametrize(("name", "shape"), USUAL)
def test_logits_come_out_for_the_usual_shapes(name, shape):
    model = build(name, shape, classes=7)
    assert isinstance(model, nn.Sequential) == (name != "torchvision")
    assert model(torch.rand(2, *shape)).shape == (2, 7)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("smlp", COLOUR, 3072 * 1024 + 1024 + 1024**2 + 1024 + 10250),
        ("dmlp", COLOUR, 3072 * 1024 + 1024 + 3 * (1024**2 + 1024) + 10250),
        ("lenet_dlg", COLOUR, (3 * 25 + 1) * 12 + 2 * (12 * 25 + 1) * 12 + 769 * 10),
        ("lenet_dlg", GRAY, (25 + 1) * 12 + 2 * (12 * 25 + 1) * 12 + 589 * 10),
        ("lenet", GRAY, 26 * 64 + 1601 * 64 + (64 * 49 + 1) * 120 + 121 * 84 + 85 * 10),
        ("alexnet", COLOUR, 1792 + 110784 + 663936 + 884992 + 590080 + 4097 * 1024 + 1025 * 1024 + 10250),
        ("vgg16", COLOUR, 14728266),  # 14,714,688 convolutional, 8,448 of batch normalisation, 5,130 dense
        ("resnet18", COLOUR, 11173962),
        ("informed_mlp", GRAY, 7960),  # table IV: 8K
        ("informed_cnn", COLOUR, 55208),  # table V: 55K
    ],
)
def test_parameter_counts(name, shape, expected):
    assert count(build(name, shape)) == expected


@pytest.mark.parametrize("stem", ["small", "pooled"])
def test_resnet18_for_cifar_has_11_2_million_parameters(stem):
    assert count(build("resnet18", stem=stem)) == 11173962


@pytest.mark.parametrize(("shape", "flat"), [(COLOUR, 768), (GRAY, 588), (LARGE, 3072)])
def test_the_flattened_sizes_of_dlgs_lenet(shape, flat):
    assert build("lenet_dlg", shape).output.in_features == flat


def test_normal_weights_have_the_deviation_that_is_asked_for_and_no_biases():
    net = build("dmlp", init="normal", init_bound=0.01)
    for name, p in net.named_parameters():
        assert p.detach().std().item() == pytest.approx(0.0 if name.endswith("bias") else 0.01, rel=0.05), name


def test_dlgs_weights_and_biases_are_uniform_and_the_others_pytorchs():
    values = torch.cat([p.flatten() for p in build("lenet_dlg").parameters()]).detach()
    assert values.abs().max() <= 0.5
    assert values.var().item() == pytest.approx(1 / 12, rel=0.05)
    assert build("lenet").conv2.weight.abs().max() <= 1 / math.sqrt(64 * 25)


@pytest.mark.parametrize(("name", "shape"), [("informed_mlp", LARGE), ("informed_cnn", LARGE)])
def test_haikus_weights_are_a_normal_distribution_cut_off_at_two_deviations(name, shape):
    model = build(name, shape, width=100)
    for layer in (m for m in model if isinstance(m, nn.Linear | nn.Conv2d)):
        scaled = layer.weight.detach() * layer.weight[0].numel() ** 0.5
        assert scaled.abs().max() <= 2.0001
        assert scaled.std().item() == pytest.approx(0.8796, rel=0.1 if scaled.numel() < 10000 else 0.02)
        assert layer.bias is not None
        assert not layer.bias.any()


X = torch.linspace(-3, 3, 13)
FORMULAS = {
    "relu": X.clamp(min=0),
    "shifted_relu": X.clamp(min=-0.5),
    "leaky_relu": torch.where(X > 0, X, 0.01 * X),
    "elu": torch.where(X > 0, X, X.exp() - 1),
    "celu": torch.where(X > 0, X, X.exp() - 1),
    "selu": 1.0507 * torch.where(X > 0, X, 1.67326 * (X.exp() - 1)),
    "gelu": X * (1 + torch.erf(X / math.sqrt(2))) / 2,
    "swish": X / (1 + (-X).exp()),
    "softplus": (1 + X.exp()).log(),
    "sigmoid": 1 / (1 + (-X).exp()),
    "tanh": (X.exp() - (-X).exp()) / (X.exp() + (-X).exp()),
    "identity": X,
}


@pytest.mark.parametrize("name", get_args(Activation))
def test_activations_are_the_functions_of_their_names(name):
    """And every architecture that has one takes it."""
    torch.testing.assert_close(activation(name)(X), FORMULAS[name], rtol=1e-4, atol=1e-5)
    for preset in ("informed_mlp", "informed_cnn", "resnet18"):
        model = build(preset, width=2, activation=name)
        assert type(activation(name)) in {type(layer) for layer in model.modules()}
        model(torch.rand(2, *COLOUR)).sum().backward()
        assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", PRESETS)
def test_the_seed_alone_determines_the_weights(name):
    before = torch.random.get_rng_state()
    one, same, other = (build(name, rng=Rng(seed)).state_dict() for seed in (1, 1, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", PRESETS)
def test_shapes_can_be_checked_without_memory(name):
    with torch.device("meta"):
        model = build(name)
    assert all(p.is_meta for p in model.parameters())
    assert model(torch.rand(2, *COLOUR, device="meta")).shape == (2, 10)


@pytest.mark.parametrize("name", [name for name in PRESETS if name != "torchvision"])
def test_a_cut_at_every_layer_recomposes_the_whole(name):
    model = build(name).eval()
    x = torch.rand(2, *COLOUR)
    with torch.no_grad():
        whole = model(x)
        names = [layer for layer, _ in model.named_children()]
        for layer in names:
            head, tail = cut(model, layer)
            assert torch.equal(tail(head(x)), whole)
            assert [n for part in (head, tail) for n, _ in part.named_children()] == names
            assert list(head.state_dict()) + list(tail.state_dict()) == list(model.state_dict())


def test_a_wrong_cut_lists_the_layers():
    with pytest.raises(UserError, match=r"cut=pool9.*choose one of conv1, act1, pool1, conv2, .*output$"):
        cut(build("lenet"), "pool9")


def test_the_layers_have_names_to_cut_at():
    def names(model):
        return " ".join(name for name, _ in model.named_children())

    assert names(build("lenet")) == "conv1 act1 pool1 conv2 act2 pool2 flatten fc1 fcact1 fc2 fcact2 output"
    stages = "block1_1 block2_1 block2_2 pool flatten output"
    assert names(build("resnet18", blocks=[1, 2])) == f"conv1 norm1 act1 {stages}"
    for stem in ("pooled", "imagenet"):
        assert names(build("resnet18", blocks=[1, 2], stem=stem)) == f"conv1 norm1 act1 pool1 {stages}"


def test_all_13_convolutions_of_vgg16_are_places_to_cut():
    model = build("vgg16").eval()
    side = {1: 32, 2: 32, 3: 16, 4: 16, 5: 8, 6: 8, 7: 8, 8: 4, 9: 4, 10: 4, 11: 2, 12: 2, 13: 2}
    for i, pixels in side.items():
        head, _ = cut(model, f"conv{i}")
        assert sum(isinstance(layer, nn.Conv2d) for layer in head) == i
        assert head(torch.rand(1, *COLOUR)).shape[2:] == (pixels, pixels)
    assert "conv14" not in dict(model.named_children())


@pytest.mark.parametrize(("depth", "filters"), [(1, [8]), (2, [8, 16]), (4, [8, 16, 24, 24])])
def test_depth_cuts_and_repeats(depth, filters):
    model = build("lenet", width=8, layers=[1, 2, 3], depth=depth, pool_after=[1])
    assert [m.out_channels for m in model if isinstance(m, nn.Conv2d)] == filters


def test_widths_of_zens_variants():
    model = build("lenet", width=16, fc_width=256)
    assert (model.conv1.out_channels, model.conv2.out_channels) == (16, 16)
    assert (model.fc1.out_features, model.fc2.out_features) == (256, 256)


@pytest.mark.parametrize("pooling", ["max", "average", "stride"])
@pytest.mark.parametrize("size", [7, 8])
def test_pooling_and_odd_sizes(pooling, size):
    shape = (3, size, size)
    model = build("lenet", shape, pooling=pooling, norm="batch", activation="tanh")
    assert model(torch.rand(2, *shape)).shape == (2, 10)
    kinds = {type(m) for m in model}
    assert (nn.MaxPool2d in kinds, nn.AvgPool2d in kinds) == (pooling == "max", pooling == "average")
    assert {nn.BatchNorm2d, nn.Tanh} <= kinds


@pytest.mark.parametrize("name", ["lenet_dlg", "resnet18"])
def test_group_normalisation_treats_examples_alone(name):
    model = build(name, norm="group")
    x = torch.rand(3, *COLOUR)
    torch.testing.assert_close(model(x)[:1], model(x[:1]))


@pytest.mark.parametrize("name", PRESETS)
def test_small_digits_are_welcome_or_refused_in_one_line(name):
    refused = {
        "vgg16": r"model\.pool_after=.*5 times.*8x8.*32x32.*dataset\.resize=32$",
        "informed_cnn": r"model\.padding=valid: .*3 pixels.*8x8.*10x10.*dataset\.resize=10$",
    }
    if name not in refused:
        assert build(name, DIGITS)(torch.rand(2, *DIGITS)).shape == (2, 10)
        return
    line = refused[name]
    with pytest.raises(UserError, match=line) as error:
        build(name, DIGITS)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "changes", "least"),
    [
        ("vgg16", {}, 32),
        ("vgg16", {"pooling": "stride"}, 17),
        ("resnet18", {"stem": "imagenet"}, 17),
        ("resnet18", {"stem": "pooled"}, 9),
        ("resnet18", {}, 5),
        ("alexnet", {}, 8),
        ("informed_cnn", {}, 10),
        ("informed_cnn", {"pooling": "max"}, 11),
        ("informed_cnn", {"kernel": 5, "depth": 3, "pool_after": [1, 3], "pooling": "average"}, 24),
    ],
)
def test_the_least_size_named_is_enough(name, changes, least):
    fits = (3, least, least)
    assert build(name, fits, **changes).eval()(torch.rand(1, *fits)).shape == (1, 10)
    with pytest.raises(UserError, match=rf"{least}x{least}.*dataset\.resize={least}"):
        build(name, (3, least - 1, least), **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": 4}, r"model\.kernel=4: .*choose 3 or 5, or model\.padding=valid$"),
        ({"depth": 1}, r"model\.pool_after=\[1, 2\]: .*model\.depth=1"),
        ({"pool_after": [1, 1]}, r"model\.pool_after=\[1, 1\]"),
        ({"fc": [], "fc_width": 64}, r"model\.fc_width=64: .*model\.fc=\[64\]"),
    ],
)
def test_contradictions_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        choice("lenet", **changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("lenet", {"width": 0}),
        ("lenet", {"layers": []}),
        ("lenet", {"pool_after": [0]}),
        ("lenet", {"pooling": "mean"}),
        ("lenet", {"activation": "swoosh"}),
        ("lenet", {"padding": "full"}),
        ("lenet", {"init_bound": 0.0}),
        ("lenet", {"dropout": 0.1}),
        ("smlp", {"depth": -1}),
        ("resnet18", {"stem": "tiny"}),
        ("resnet18", {"blocks": []}),
    ],
)
def test_values_out_of_bounds_are_refused(name, changes):
    with pytest.raises(ValidationError):
        choice(name, **changes)
