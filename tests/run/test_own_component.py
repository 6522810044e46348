"""A component of the user's own, with the mistakes that are made in one: one line each, with the remedy."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from conftest import Privsweep
from safetensors.torch import save_file

MEAN = """
import torch
from privsweep import AttackBase, Reconstruction, ThreatModel, Update, component

@component
class Own(AttackBase):
    shift: float
    observes = Update
    needs = frozenset({"domain"})
    threat = ThreatModel(frozenset({"train"}), frozenset({"server"}), "white-box")

    def __call__(self, seen, known, prepared, bench, rng):
        images = torch.zeros(len(seen.victims), seen.examples, *known.domain.shape)
        return Reconstruction(images, torch.zeros(len(images), dtype=torch.bool))
"""
CLIP = """
from privsweep import Defense, component

@component
class Own(Defense):
    shift: float

    def update(self, delta, rng):
        return delta
"""
LAYER = """
from privsweep import Defense, component
from torch import nn

@component
class Own(Defense):
    shift: float

    def model(self, model, rng):
        return nn.Sequential(model, nn.Linear(10, 10))
"""
LINEAR = """
from math import prod
from privsweep import component
from torch import nn, zeros

class Cut(nn.Sequential):
    def forward(self, x):
        return super().forward(x).detach()

class Compiled(nn.Sequential):
    _orig_mod = None

class Spare(nn.Sequential):
    def __init__(self, *layers):
        super().__init__(*layers)
        self.spare = nn.Parameter(zeros(3))

    def forward(self, x):
        return self[1](self[0](x))

@component
class Own:
    shift: float

    def build(self, domain, rng):
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(domain.shape), domain.classes))
"""


@pytest.fixture
def said(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """What is said of a component in which ``old`` is mistaken for ``new``, after the exit code."""

    def run(group: str, text: str, old: str, new: str, *more: str) -> str:
        package = f"own_{tmp_path.name}"
        sys.modules.pop(package, None)
        (tmp_path / f"{package}.py").write_text(text.replace(old, new))
        folder = tmp_path / "my_conf" / group
        folder.mkdir(parents=True, exist_ok=True)
        head = "# @package defense.own\n" if group == "defense" else ""
        (folder / "own.yaml").write_text(f"{head}_target_: {package}.Own\nshift: 0.0\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PRIVSWEEP_TRUST", package)
        chosen = "defense=[own]" if group == "defense" else f"{group}=own"
        width = [] if group == "model" else ["model.width=3"]
        small = ["dataset.train_size=60", "dataset.test_size=20", "fl_setting.victims=2", "scale=smoke", *width]
        code = privsweep("--config-dir", str(tmp_path / "my_conf"), chosen, *small, *more, tiny=False)
        return f"{code} " + " ".join(capsys.readouterr().err.split())

    return run


@pytest.mark.parametrize(
    ("group", "text", "old", "new", "expected"),
    [
        ("attack", MEAN, "@component", "", "2 privsweep: attack="),
        ("attack", MEAN, "@component", "", "takes no arguments); decorate the class with @privsweep.component"),
        ("attack", MEAN, "    observes", "    def __post_init__(self): 1 / 0\n    observes", "division by zero"),
        ("attack", MEAN, "self, seen", "self(, seen", "SyntaxError"),
        ("attack", MEAN, "import torch", "import torchh", "No module named 'torchh'); correct own_"),
        ("attack", MEAN, "return Rec", "Rec", "1 privsweep: TypeError: the attack returned NoneType; let it return"),
        ("attack", MEAN, "seen.examples, ", "", "1 privsweep: ValueError: the attack's images are [2, 1, 8, 8]"),
        ("attack", MEAN, ", dtype=torch.bool", "", "let it be torch.bool [2], one for each victim"),
        ("attack", MEAN, "domain.shape)", "domain.shape).numpy()", "returns a ndarray for its images; let it be a t"),
        (
            "attack",
            MEAN,
            "dtype=torch.bool)",
            "dtype=torch.bool), diagnostics={'odd': torch.zeros(1)}",
            "the attack's diagnostics['odd'] is [1]; let it be [2], one for each victim",
        ),
        (
            "attack",
            MEAN,
            "domain.shape)",
            "domain.shape).byte()",
            "the attack's images are torch.uint8; let it return wh",
        ),
        ("attack", MEAN, "white-box", "whitebox", "Own: threat.access=whitebox: take white-box or black-box"),
        ("attack", MEAN, '"server"}', '"sever"}', "Own: threat.positions=sever: take some of client, off-path, server"),
        ("attack", MEAN, 'frozenset({"train"})', '"train"', "Own: threat.times=train: is no set; write frozenset"),
        ("attack", MEAN, '({"domain"})', '({"domian"})', "Own: needs=domian: take some of algorithm, architecture"),
        (
            "attack",
            MEAN,
            "observes = Update",
            "observes = ThreatModel",
            "take Update, Activations, Predictions, Release, Trials, UpdateTrials or PropertyTrials",
        ),
        ("attack", MEAN, "threat = ThreatModel", "threat = ", "is no ThreatModel; write privsweep.ThreatModel(times"),
        ("defense", CLIP, "def update", "def updat", "2 privsweep: defense=own: overrides no point"),
        ("defense", CLIP, "return delta", "delta", "1 privsweep: TypeError: defense=own: its update returns nothing"),
        (
            "defense",
            CLIP,
            "return delta",
            "return [*delta.values()]",
            "1 privsweep: TypeError: defense=own: its update returns list; let it return tensors by parameter name",
        ),
        ("defense", CLIP, "return delta", "delta.popitem(); return delta", "let it return the names that it is given"),
        (
            "defense",
            CLIP,
            "return delta",
            "return {**delta, 'more': 1}",
            "1 privsweep: ValueError: defense=own: its update returns more, which it was not given; let it return the",
        ),
        (
            "defense",
            CLIP,
            "return delta",
            "return {n: d.numpy() for n, d in delta.items()}",
            "1 privsweep: TypeError: defense=own: its update returns ndarray for ",
        ),
        (
            "defense",
            CLIP,
            "return delta",
            "return {n: d.double() for n, d in delta.items()}",
            "1 privsweep: ValueError: defense=own: its update returns torch.float64 [",
        ),
        (
            "defense",
            CLIP.replace("update(self, delta, rng)", "gradient(self, delta, expected_batch, rng)"),
            "return delta",
            "return {n: d.flatten()[:1] for n, d in delta.items()}",
            "1 privsweep: ValueError: defense=own: its gradient returns torch.float32 [1] for ",
        ),
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


@pytest.mark.parametrize(("group", "text"), [("attack", MEAN), ("defense", CLIP), ("model", LINEAR)])
def test_without_a_mistake_it_runs(said: Callable[..., str], group: str, text: str) -> None:
    assert said(group, text, "shift", "shift").startswith("0")


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
