"""A setting of the user's own, with the mistakes that are made in one: one line each, with the remedy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import Privsweep

SETTING = """
from dataclasses import dataclass
from privsweep import Central, Update, component

@dataclass
class Seen:
    setting: "Own"
    observation = Update
    time = "train"
    position = "server"
    grants = frozenset({"domain", "recipe"})
    calls = frozenset({"loss"})

    def check(self, data, model, defense, rng):
        pass

    def expose(self, system, data, model, defense, rng):
        return "nothing"

@component
class Own(Central):
    server_lr: float

    def views(self):
        return (Seen(self),)
"""
LEAVES_OUT = """
        from privsweep import Exposure, Images, Knowledge
        return Exposure(Update({}, {}, "gradient", 1, 1), Knowledge(domain=data.domain), None)
"""
TRAINS = """
    def train(self, data, model, defense, rng, bench):
        from privsweep import System
        weights = self.network(data, model, defense, rng).state_dict()
        return System(snapshots={{0: {}}}, utility={{}})

    def views"""


@pytest.mark.parametrize(
    ("old", "new", "code", "expected"),
    [
        ("@component", "", 2, "has fields and is no component; decorate the class with @privsweep.component"),
        ("(Seen(self),)", "None", 2, "views: returns null; let it return a tuple of one view or more"),
        ("Seen(self)", "Seen", 2, "views: Seen is a class; let it return what the class makes, such as Seen(self)"),
        ("return (Seen(self),)", "1 / 0", 2, "views: fails (ZeroDivisionError: division by zero); correct it"),
        ("    calls", "    called", 2, "views: Seen has no calls; a View needs it"),
        ('"server"', '"sever"', 2, "views: Seen: position=sever: take client, server or off-path"),
        ("= Update", "= 'Update'", 2, "views: Seen: observation=Update: is nothing that is seen; take Update, Act"),
        ('{"loss"}', '{"los"}', 2, "views: Seen: calls=los: take some of activations, aggregate, batch_gradient"),
        ("    def views", "    training_calls = 3\n    def views", 2, "training_calls=3: is no set; write frozenset"),
        ("pass", "1 / 0", 1, "line 15: correct it, the traceback is in"),
        ("", "", 1, "TypeError: Seen.expose returned str; let it return an Exposure(seen, known, truth)"),
        ('        return "nothing"\n', LEAVES_OUT, 1, "TypeError: Seen.expose leaves out recipe; give Knowledge all"),
        (
            "    def views",
            "    def train(self, *given): pass\n    def views",
            1,
            "TypeError: the setting's train returned NoneType; let it return a System with weights by round",
        ),
        (
            "    def views",
            TRAINS.format("{'net.' + name: value for name, value in weights.items()}"),
            1,
            "of round 0 net.conv1.weight, net.conv1.bias, net.conv2.weight, ..., the network has",
        ),
        (
            "    def views",
            TRAINS.format("{name: value.flatten() for name, value in weights.items()}"),
            1,
            "of round 0 conv1.weight of shape [75], the network has [3, 1, 5, 5]; let it return the values as they",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(
    privsweep: Privsweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    old: str, new: str, code: int, expected: str,
) -> None:  # fmt: skip
    package = f"own_{tmp_path.name}"
    sys.modules.pop(package, None)
    (tmp_path / f"{package}.py").write_text(SETTING.replace(old, new, 1))
    (tmp_path / "conf" / "fl_setting").mkdir(parents=True)
    stated = f"defaults: [central, _self_]\n_target_: {package}.Own\nserver_lr: 1.0\n"
    (tmp_path / "conf" / "fl_setting" / "own.yaml").write_text(stated)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PRIVSWEEP_TRUST", package)
    given = ["fl_setting=own", "attack=blind", "fl_setting.epochs=0"]
    assert privsweep("--config-dir", str(tmp_path / "conf"), *given) == code
    told = " ".join(capsys.readouterr().err.split())
    assert expected in told
    assert f"fl_setting={package}.Own: " in told or code == 1
