"""Where a network may be cut twice, and how its layers count."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch
from torch import nn

from privsweep.fl_setting.collaborative_inference import CollaborativeInference
from privsweep.interface.data import Domain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.model.ensemble import Bodies, LearntSelector, Selector, widened
from privsweep.model.split_network import split, units
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

CIFAR = Domain((3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3)


def network(*overrides: str) -> nn.Sequential:
    with searching(None):
        net = build(compose([*overrides, "attack=none"])).model.build(CIFAR, Rng(0))
    assert isinstance(net, nn.Sequential)
    return net


def test_the_stages_of_a_resnet_count_as_one_layer_each() -> None:
    net = network("model=resnet18", "model.stem=pooled", "model.width=4")
    assert [unit[-1] for unit in units(net)] == ["pool1", "block1_2", "block2_2", "block3_2", "flatten", "output"]


def test_convolutions_of_a_plain_network_count_with_what_follows_them() -> None:
    net = network("model=vgg16", "model.width=4")
    firsts = [unit[0] for unit in units(net)]
    assert firsts == [*(f"conv{n}" for n in range(1, 14)), "output"]
    assert units(net)[1] == ["conv2", "norm2", "act2", "pool2"]


def test_a_head_by_number_has_weights_even_where_a_network_begins_without() -> None:
    """Else a client would send its image itself."""
    net = network("model=smlp", "model.width=4", "model.depth=2")
    assert units(net) == [["flatten", "fc1", "fcact1"], ["fc2", "fcact2"], ["output"]]
    assert split(net, 1, 1, CIFAR).sent == (4,)


@pytest.mark.parametrize(
    ("overrides", "version"),
    [(["model=smlp"], 1), (["model=smlp", "fl_setting.first_split=fc1"], 0), (["model=resnet18"], 0)],
)
def test_results_of_a_cut_that_has_moved_are_others(overrides: list[str], version: int) -> None:
    with searching(None):
        spec = build(compose(["fl_setting=collaborative_inference", "attack=none", *overrides]))
    assert isinstance(spec.fl_setting, CollaborativeInference)
    assert spec.fl_setting.version_with(spec.model) == version


@pytest.mark.parametrize(("first", "second"), [(1, 1), ("pool1", "output"), (2, 3), ("block1_1", "block4_1")])
def test_the_parts_together_are_the_network(first: int | str, second: int | str) -> None:
    net = network("model=resnet18", "model.stem=pooled", "model.width=4").eval()
    cut = split(net, first, second, CIFAR).eval()
    x = torch.rand(2, *CIFAR.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(cut(x), net(x))
    assert cut.head(x).shape[1:] == cut.sent
    assert cut.body(cut.head(x)).shape[1:] == cut.returned


def test_features_have_the_sizes_that_the_paper_states() -> None:
    """Ensembler, section 5.1: 64x16x16 for CIFAR-10, 64x32x32 for CIFAR-100, 64x64x64 for CelebA-HQ."""
    assert split(network("model=resnet18", "model.stem=pooled"), 1, 1, CIFAR).sent == (64, 16, 16)
    assert split(network("model=resnet18"), 1, 1, CIFAR).sent == (64, 32, 32)
    faces = Domain((3, 64, 64), 307, (0.0,) * 3, (1.0,) * 3)
    with searching(None):
        net = build(compose(["model=resnet18", "attack=none"])).model.build(faces, Rng(0))
    assert split(net, 1, 1, faces).sent == (64, 64, 64)


def test_a_network_that_is_no_sequence_cannot_be_cut() -> None:
    class Other(nn.Module):
        pass

    with pytest.raises(UserError, match=r"fl_setting.first_split=1: the model is no sequence"):
        split(Other(), 1, 1, CIFAR)


def test_a_selector_weighs_and_a_wide_tail_reads_all_answers() -> None:
    z = torch.rand(3, 6)
    bodies = Bodies([nn.Linear(6, 4) for _ in range(5)])
    answers = bodies(z)
    assert answers.shape == (3, 20)
    weighed = Selector(5, [1, 3])(answers).unflatten(1, (5, 4))
    assert torch.equal(weighed[:, [0, 2, 4]], torch.zeros(3, 3, 4))
    assert torch.allclose(weighed[:, 1], bodies.nets[1](z) / 2)
    alike = LearntSelector(5)(answers)
    assert torch.allclose(alike, answers / 5)
    tail = widened(nn.Sequential(OrderedDict(output=nn.Linear(4, 10))), 5)
    assert tail(answers).shape == (3, 10)
    with pytest.raises(ValueError, match="not linear"):
        widened(nn.Sequential(OrderedDict(pool=nn.ReLU())), 5)
