"""What holds for every setting and each of its views."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from captured_world import of_a_tiny_lenet
from tiny import TINY, Bench, by_kind
from torch import Tensor

from privsweep.interface.component import marked
from privsweep.interface.data import Data
from privsweep.interface.defense import POINTS, Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.roles import Setting
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose, searching
from privsweep.run.run_spec import RunSpec

CHOICES = sorted(p.stem for p in (CONF / "fl_setting").glob("*.yaml"))
VARIANTS: list[tuple[str, Sequence[str]]] = [
    *((name, ()) for name in CHOICES),
    ("fedavg", ["fl_setting.capture.what=difference"]),
    ("fedavg", ["fl_setting.capture.step=1"]),
    ("fedavg", ["fl_setting.position=client"]),
    ("fedsgd", ["fl_setting.position=client"]),
    ("central", ["fl_setting.capture.what=difference"]),
]


def setting(name: str, changes: Sequence[str]) -> Setting:
    return spec_of(name, changes).fl_setting


def spec_of(name: str, changes: Sequence[str]) -> RunSpec:
    more = {"split": ["fl_setting.cut=act1"], "captured": [f"fl_setting.path={of_a_tiny_lenet()}"]}.get(name, [])
    with searching(None):
        return build(compose([*TINY, f"fl_setting={name}", "attack=none", *more, *changes]))


def spying_at(points: set[str], heard: set[str]) -> Defense:
    """A defence that acts at ``points``, changes nothing, and notes which of them are called."""

    def spied(name: str) -> Callable[..., Any]:
        def call(self: Defense, first: Any, *rest: Any) -> Any:
            heard.add(name)
            if name == "sample":
                return Tensor(range(min(first, rest[0]))).long()
            return getattr(Defense, name)(self, first, *rest)

        return call

    made: Defense = type("Spy", (Defense,), {name: spied(name) for name in points})()
    return made


def test_none_is_lost() -> None:
    assert {"central", "fedavg", "fedsgd", "split"} <= set(CHOICES)


@pytest.mark.parametrize(("name", "changes"), VARIANTS, ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_the_points_that_it_declares_are_those_that_it_calls(
    name: str, changes: Sequence[str], data: Data, lenet: Any
) -> None:
    asked = ["fl_setting.property_share=0.5"] if name in ("central", "fedavg", "fedsgd") else []
    own, data = setting(name, [*changes, *asked]), by_kind(data)
    trained: set[str] = set()
    exposed: dict[type, set[str]] = {view.observation: set() for view in own.views()}
    # One gradient an example, and noise at the cut, do not go together.
    for left_out in ({"activations"}, {"sample", "example_gradients"}):
        for points in (set(POINTS) - left_out, {"update", "server_view", "aggregate", "gradient"}):
            heard: set[str] = set()
            spy = spying_at(points, heard)
            system = own.train(data, lenet, spy, Rng(0), Bench())
            trained |= heard
            for view in own.views():
                heard.clear()
                view.expose(system, data, lenet, spy, Rng(0))
                exposed[view.observation] |= heard
    assert trained == own.training_calls
    for view in own.views():
        assert exposed[view.observation] == view.calls


@pytest.mark.parametrize("name", CHOICES)
def test_training_knows_nothing_of_what_is_seen(name: str, data: Data, lenet: Any) -> None:
    """Its copy has no field of exposure, and its weights are the same."""
    spec_setting, spec = setting(name, ()), spec_of(name, ())
    blind = spec.training_setting()
    for field in marked(spec_setting, "training"):
        assert not hasattr(blind, field)
    first, second = (s.train(data, lenet, Defense(), Rng(0), Bench()) for s in (spec_setting, blind))
    for done, weights in first.snapshots.items():
        assert all(torch.equal(w, second.snapshots[done][n]) for n, w in weights.items())


@pytest.mark.parametrize("name", CHOICES)
def test_it_lists_one_view_a_kind_of_observation(name: str) -> None:
    views = setting(name, ()).views()
    fewest = 1 if name == "captured" else 2  # a captured update is all that there is
    assert len({view.observation for view in views}) == len(views) >= fewest
    for view in views:
        assert view.calls <= set(POINTS)
        assert view.time in ("train", "test")
