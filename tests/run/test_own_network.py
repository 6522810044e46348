"""A network of the user's own, or a defence's that changes it, is tried before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from own_world import LAYER, LINEAR
from safetensors.torch import save_file


@pytest.mark.parametrize(
    ("group", "text", "old", "new", "expected"),
    [
        ("model", LINEAR, "return nn", "nn", "2 privsweep: model=own: builds a NoneType; let its build return"),
        ("model", LINEAR, "domain, rng", "domain", "2 privsweep: model=own: fails on a batch of images of 8x8"),
        ("model", LINEAR, "prod(domain.shape)", "7", "2 privsweep: model=own: fails on a batch of images of 8x8"),
        ("model", LINEAR, "domain.classes", "7", "2 privsweep: model=own: has 7 outputs, the data 10 classes"),
        ("model", LINEAR, "domain.classes", "13", "2 privsweep: model=own: has 13 outputs, the data 10 classes"),
        ("model", LINEAR, "classes))", "classes)).double()", "2 privsweep: model=own: answers in torch.float64"),
        ("model", LINEAR, "nn.Flatten(), ", "nn.Flatten(0), ", "2 privsweep: model=own: fails on a batch"),
        (
            "model",
            LINEAR,
            "nn.Linear(prod(domain.shape)",
            "nn.LazyLinear(*()",
            "model=own: 1.weight gets its shape from",
        ),
        ("model", LINEAR, "nn.Sequential(", "Compiled(", "2 privsweep: model=own: is compiled by torch.compile"),
        (
            "model",
            LINEAR,
            "nn.Flatten(), ",
            "nn.ReLU(True), nn.Flatten(), ",
            "2 privsweep: model=own: fails on a batch",
        ),
        ("model", LINEAR, "nn.Sequential(", "Cut(", "2 privsweep: model=own: answers with what no gradient comes thr"),
        (
            "model",
            LINEAR,
            "nn.Sequential(",
            "Spare(",
            "2 privsweep: model=own: spare takes no part in the answer; leave",
        ),
        (
            "defense",
            LAYER,
            "return nn.Sequential",
            "nn.Sequential",
            "2 privsweep: defense=own: builds a NoneType; let its m",
        ),
        ("defense", LAYER, "10, 10", "11, 10", "2 privsweep: defense=own: fails on a batch of images of 8x8"),
        (
            "defense",
            LAYER,
            ", nn.L",
            ", nn.Dropout(), nn.L",
            "2 privsweep: defense=own: layer 1 draws random numbers fr",
        ),
        ("model", LINEAR, "(nn.F", "(nn.Dropout(0.5), nn.F", "2 privsweep: model=own: layer 0 draws random numbers"),
        (
            "model",
            LINEAR,
            "return nn.Sequential(nn.Flatten(), ",
            "one = nn.Linear(64, 64); return nn.Sequential(nn.Flatten(), one, nn.Tanh(), one, ",
            "2 privsweep: model=own: holds one parameter as 1.weight and as 3.weight, so that a defence would miss",
        ),
        ("model", LINEAR, "(nn.F", "(nn.RReLU(), nn.F", "2 privsweep: model=own: draws random numbers from Py"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    said: Callable[..., str], group: str, text: str, old: str, new: str, expected: str
) -> None:
    assert expected in said(group, text, old, new)


def test_without_a_mistake_it_runs(said: Callable[..., str]) -> None:
    assert said("model", LINEAR, "shift", "shift").startswith("0")


@pytest.mark.parametrize("layer", ["privsweep.Dropout((1, 8, 8), 0.5)", "nn.Dropout(0.0)"])
def test_what_draws_nothing_of_its_own_runs(said: Callable[..., str], layer: str) -> None:
    text = LINEAR.replace("from torch", "import privsweep\nfrom torch")
    assert said("model", text, "(nn.F", f"({layer}, nn.F").startswith("0")


def test_a_network_that_needs_values_is_tried_with_some(said: Callable[..., str]) -> None:
    layer = "nn.Sequential(nn.Flatten(), Looks(), nn"
    looks = "class Looks(nn.Module):\n    def forward(self, x):\n        return x * float(x.sum() > -1)\n\n@component"
    text = LINEAR.replace("@component", looks)
    assert said("model", text, "nn.Sequential(nn.Flatten(), nn", layer).startswith("0")


def test_a_network_with_a_checkpoint_is_tried_too(said: Callable[..., str], tmp_path: Path) -> None:
    state = {"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}
    save_file({f"module.{name}": t for name, t in state.items()}, tmp_path / "good.safetensors")
    save_file({f"state_dict.{name}": t[:7] for name, t in state.items()}, tmp_path / "short.safetensors")
    torch.save({"state_dict": state}, tmp_path / "old.pt")
    assert said("model", LINEAR, "", "", "+model.weights=good.safetensors").startswith("0")
    for file, words in (
        ("short.safetensors", "state_dict.1.weight is 7x64 there and 10x64 in the network; choose"),
        ("old.pt", "model.weights=old.pt: was pickled, which may run code; write the state with"),
    ):
        for plan in ("true", "false"):
            assert words in said("model", LINEAR, "", "", f"+model.weights={file}", f"plan={plan}")
    wrong = said("model", LINEAR, "domain.classes", "7", "+model.weights=good.safetensors", "seed=1")
    assert wrong.startswith("2 privsweep: model=own: has 7 outputs, the data 10 classes")


@pytest.mark.parametrize(("overrides", "key"), [
    (["model=imprint_module", "+model@model.inner=own"], "model.inner"),
    (["model=lenet_dlg", "attack=lira_online", "+model@attack.shadow=own"], "attack.shadow"),
])  # fmt: skip
def test_a_network_within_another_component_is_tried_too(
    said: Callable[..., str], overrides: list[str], key: str
) -> None:
    assert f"2 privsweep: {key}: has 7 outputs" in said("model", LINEAR, "domain.classes", "7", *overrides, "plan=true")
