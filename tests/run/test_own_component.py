"""A component of the user's own, with the mistakes that are made in one: one line each, with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Privsweep

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
LINEAR = """
from math import prod
from privsweep import component
from torch import nn

@component
class Own:
    shift: float

    def build(self, domain, rng):
        return nn.Sequential(nn.Flatten(), nn.Linear(prod(domain.shape), domain.classes))
"""


@pytest.fixture
def said(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str, str, str, str], str]:
    """What is said of a component in which ``old`` is mistaken for ``new``, after the exit code."""

    def run(group: str, text: str, old: str, new: str) -> str:
        package = f"own_{tmp_path.name}"
        (tmp_path / f"{package}.py").write_text(text.replace(old, new))
        folder = tmp_path / "my_conf" / group
        folder.mkdir(parents=True)
        head = "# @package defense.own\n" if group == "defense" else ""
        (folder / "own.yaml").write_text(f"{head}_target_: {package}.Own\nshift: 0.0\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setenv("PRIVSWEEP_TRUST", package)
        chosen = "defense=[own]" if group == "defense" else f"{group}=own"
        width = [] if group == "model" else ["model.width=3"]
        small = ["dataset.train_size=60", "dataset.test_size=20", "fl_setting.victims=2", "scale=smoke", *width]
        code = privsweep("--config-dir", str(tmp_path / "my_conf"), chosen, *small, tiny=False)
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
        ("attack", MEAN, "white-box", "whitebox", "Own: threat.access=whitebox: take white-box or black-box"),
        ("attack", MEAN, '"server"}', '"sever"}', "Own: threat.positions=sever: take some of client, off-path, server"),
        ("attack", MEAN, 'frozenset({"train"})', '"train"', "Own: threat.times=train: is no set; write frozenset"),
        ("attack", MEAN, '({"domain"})', '({"domian"})', "Own: needs=domian: take some of algorithm, architecture"),
        (
            "attack",
            MEAN,
            "observes = Update",
            "observes = ThreatModel",
            "take Update, Activations, Predictions, Release or Trials",
        ),
        ("attack", MEAN, "threat = ThreatModel", "threat = ", "is no ThreatModel; write privsweep.ThreatModel(times"),
        ("defense", CLIP, "def update", "def updat", "2 privsweep: defense=own: overrides no point"),
        ("defense", CLIP, "return delta", "delta", "1 privsweep: TypeError: defense=own: its update returns nothing"),
        ("model", LINEAR, "return nn", "nn", "2 privsweep: model=own: builds a NoneType; let its build return"),
        ("model", LINEAR, "domain, rng", "domain", "2 privsweep: model=own: fails on a batch of images of 8x8"),
        ("model", LINEAR, "prod(domain.shape)", "7", "2 privsweep: model=own: fails on a batch of images of 8x8"),
        ("model", LINEAR, "domain.classes", "7", "2 privsweep: model=own: has 7 outputs, the data 10 classes"),
        ("model", LINEAR, "classes))", "classes)).double()", "2 privsweep: model=own: answers in torch.float64"),
        ("model", LINEAR, "nn.Flatten(), ", "nn.Flatten(0), ", "2 privsweep: model=own: fails on a batch"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    said: Callable[[str, str, str, str], str], group: str, text: str, old: str, new: str, expected: str
) -> None:
    assert expected in said(group, text, old, new)


@pytest.mark.parametrize(("group", "text"), [("attack", MEAN), ("defense", CLIP), ("model", LINEAR)])
def test_without_a_mistake_it_runs(said: Callable[[str, str, str, str], str], group: str, text: str) -> None:
    assert said(group, text, "shift", "shift").startswith("0")


def test_a_network_that_needs_values_is_tried_with_some(said: Callable[[str, str, str, str], str]) -> None:
    layer = "nn.Sequential(nn.Flatten(), Looks(), nn"
    looks = "class Looks(nn.Module):\n    def forward(self, x):\n        return x * float(x.sum() > -1)\n\n@component"
    text = LINEAR.replace("@component", looks)
    assert said("model", text, "nn.Sequential(nn.Flatten(), nn", layer).startswith("0")
