"""A classifier behind two dense layers."""

from __future__ import annotations

import pytest
import torch
from conftest import Privsweep
from torch import nn

from privsweep.interface.data import Domain
from privsweep.interface.randomness import Rng
from privsweep.run.build import build
from privsweep.run.compose import compose, searching

DOMAIN = Domain(shape=(3, 16, 16), classes=10, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def built(*overrides: str, seed: int = 0) -> nn.Module:
    with searching(None):
        return build(compose(["model=imprint_module", "model.width=8", *overrides])).model.build(DOMAIN, Rng(seed))


@pytest.mark.parametrize(
    ("overrides", "last"), [((), "output"), (("+model@model.inner=resnet18", "model.inner.width=4"), "output")]
)
def test_images_pass_two_linear_layers_and_then_another_network(overrides: tuple[str, ...], last: str) -> None:
    net = built(*overrides)
    names = [name for name, _ in net.named_children()]
    assert names[:5] == ["imprint_flatten", "imprint_in", "imprint_act", "imprint_out", "imprint_image"]
    assert names[-1] == last
    module = nn.Sequential(*list(net.children())[:5])
    assert module(torch.rand(2, 3, 16, 16)).shape == (2, 3, 16, 16)
    assert net(torch.rand(2, 3, 16, 16)).shape == (2, 10)


def test_initial_values_follow_from_the_seed() -> None:
    first, again, other = (built(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["imprint_in.weight"], other["imprint_in.weight"])


def test_a_convolutional_network_behind_it_gives_its_images_away(
    privsweep: Privsweep, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (
        "attack=imprint", "model=imprint_module", "model.width=256", "+model@model.inner=resnet18",
        "model.inner.width=4", "dataset.train_size=200", "fl_setting.rounds=0", "fl_setting.capture.batch_size=8",
    )  # fmt: skip
    assert privsweep(*given) == 0
    assert "2 of 2 updates recovered" in capsys.readouterr().out
