"""An attack or a defence of the user's own, with the mistakes that are made in one: one line each, with the remedy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from own_world import CLIP, MEAN


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
    ],
)
def test_a_mistake_is_told_in_one_line(
    said: Callable[..., str], group: str, text: str, old: str, new: str, expected: str
) -> None:
    assert expected in said(group, text, old, new)


@pytest.mark.parametrize(("group", "text"), [("attack", MEAN), ("defense", CLIP)])
def test_without_a_mistake_it_runs(said: Callable[..., str], group: str, text: str) -> None:
    told = said(group, text, "shift", "shift")
    assert told.startswith("0")
    assert "draws from" not in told


def test_keys_of_a_class_that_it_does_not_extend_are_told_in_one_line(said: Callable[..., str]) -> None:
    """As where a YAML takes over another attack's and its class does not."""
    inherited = [f"+attack.{key}={value}" for key, value in (("iterations", 3), ("lr", 0.1), ("optimizer", "adam"))]
    told = said("attack", MEAN, "", "", *inherited)
    assert told.startswith("2 privsweep: attack=own_")
    assert told.endswith(
        ".Own: has no iterations, lr, optimizer; let the class extend the one that has them, or let its YAML leave "
        "them out"
    )
    assert said("attack", MEAN, "", "", "+attack.shft=1", "+attack.lr=1").count("no such key; ") == 2


@pytest.mark.parametrize(
    ("draw", "whose"),
    [
        ("__import__('torch').rand(1)", "PyTorch's"),
        ("__import__('numpy').random.rand()", "NumPy's"),
        ("__import__('random').random()", "Python's"),
    ],
)
def test_draws_that_no_seed_sets_are_told(said: Callable[..., str], draw: str, whose: str) -> None:
    for group, text, line in (("attack", MEAN, "images = "), ("defense", CLIP, "return delta")):
        told = said(group, text, line, f"{draw}; {line}")
        assert told.startswith("0")
        assert f"{group}=own: draws from {whose} own stream, which the seed does not set, so that what is" in told


def test_draws_from_the_stream_that_it_is_given_are_not(said: Callable[..., str]) -> None:
    drawn = "rng.normal(3); torch.rand(2, generator=rng.generator()); images = "
    told = said("attack", MEAN, "images = ", drawn)
    assert told.startswith("0")
    assert "draws from" not in told
