"""The truth reaches no attack: neither in what is seen, nor in what is known, nor in anything that hangs on either."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from captured_world import of_a_tiny_lenet
from tiny import TINY, Bench, by_kind
from torch import Tensor, nn

from privsweep.interface.data import Data
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Exposure, Update
from privsweep.interface.roles import View
from privsweep.interface.truth import Images, Membership, Properties
from privsweep.run.build import build
from privsweep.run.compose import CONF, compose, searching
from privsweep.run.run_spec import RunSpec
from privsweep.store.fingerprint import checksum_of

SETTINGS = sorted(p.stem for p in (CONF / "fl_setting").glob("*.yaml"))
FITTING = {
    "split": ["attack=prior_mean", "model=lenet", "dataset.prior_size=20"],
    "release": ["attack=none", "model=informed_mlp", "fl_setting.without=1", "fl_setting.epochs=2"],
}
# Training with statistics of the batch, and captures that leave traces in a network: a difference, a train mode.
NORMED = [*TINY, "model=resnet18", "model.width=16", "fl_setting.capture.batch_size=2", "fl_setting.labels_known=true"]
KINDS = [
    ("fedavg", ["fl_setting.capture.what=gradient"]),
    ("fedavg", ["fl_setting.capture.what=difference", "fl_setting.optimizer=sgd"]),
    ("fedavg", ["fl_setting.position=client", "fl_setting.clients=2"]),
    ("fedsgd", []),
    ("central", []),
    ("split", []),
    ("release", []),
    ("captured", []),
]
VIEWS = {"captured": 1, "split": 2, "release": 2}  # of all others four


def made(setting: str, *overrides: str) -> RunSpec:
    given = [*NORMED, f"fl_setting={setting}", *overrides]
    fitting = FITTING.get(setting, [])
    if setting == "captured":
        fitting = ["model=lenet_dlg", "model.width=3", f"fl_setting.path={of_a_tiny_lenet()}"]
        given = [o for o in given if "capture." not in o]
    chosen = {o.partition("=")[0] for o in fitting}
    if fitting:
        given = [o for o in given if o.partition("=")[0] not in {*chosen, "model.width"}]
    if setting in ("central", "fedavg", "fedsgd"):
        given.append("fl_setting.property_share=0.5")
    if setting == "release":
        given = [o for o in given if "capture" not in o and "labels_known" not in o]
    with searching(None):
        return build(compose([*given, *fitting]))


def views_of(spec: RunSpec, data: Data) -> Iterator[tuple[View, Exposure]]:
    """Everything that any view of the setting hands out."""
    rng, data = Rng(0), by_kind(data)
    system = spec.training_setting().train(data, spec.model, spec.defense, rng, Bench())
    for view in spec.fl_setting.views():
        view.check(data, spec.model, spec.defense, rng)
        yield view, view.expose(system, data, spec.model, spec.defense, rng)


def within(value: Any, met: set[int] | None = None) -> Iterator[Tensor]:
    """Every tensor that can be reached from ``value``: attributes, items, buffers, closures, default arguments."""
    met = set() if met is None else met
    if id(value) in met or isinstance(value, str | bytes | int | float | type | None):
        return
    met.add(id(value))
    if isinstance(value, Tensor):
        yield value
        return
    if isinstance(value, Mapping):
        parts: list[Any] = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        parts = list(value)
    else:
        cells = [c.cell_contents for c in getattr(value, "__closure__", None) or ()]
        defaults = getattr(value, "__defaults__", None) or ()
        # a module's globals are everybody's
        parts = [*cells, *defaults, getattr(value, "__self__", None), *getattr(value, "__dict__", {}).values()]
    for part in parts:
        yield from within(part, met)


def test_the_walk_finds_what_hides() -> None:
    hidden = torch.arange(3.0)
    net = nn.Linear(2, 2)
    net.register_buffer("running", hidden)

    def loss(x: Tensor) -> Tensor:
        return x + hidden

    for place in (loss, net, {"a": [loss]}, lambda x, kept=hidden: x):
        assert any(t is hidden for t in within(place))


@pytest.mark.parametrize(("setting", "changes"), KINDS, ids=lambda x: x if isinstance(x, str) else " ".join(x))
def test_nothing_that_an_attack_is_handed_holds_the_truth(setting: str, changes: list[str], data: Data) -> None:
    spec = made(setting, *changes)
    found = 0
    for view, out in views_of(spec, data):
        found += 1
        assert out.known.granted() == view.grants - {"defense"}  # there is none
        assert isinstance(out.seen, view.observation)
        truth = [part for part in vars(out.truth).values() if isinstance(part, torch.Tensor)]
        storages = {t.untyped_storage().data_ptr() for t in (*truth, data.train.images, data.test.images)}
        asked = {id(t) for t in within([getattr(out.known, n, None) for n in ("labels", "candidates")])}
        for tensor in within([out.seen, out.known]):
            assert tensor.untyped_storage().data_ptr() not in storages
            if id(tensor) not in asked:
                assert not any(tensor.shape == t.shape and torch.equal(tensor, t.to(tensor.dtype)) for t in truth)
    assert found == VIEWS.get(setting, 4)


@pytest.mark.parametrize(
    ("setting", "changes"),
    [kind for kind in KINDS if kind[0] != "captured"],  # its victims are those of its file
    ids=lambda x: x if isinstance(x, str) else " ".join(x),
)
def test_what_is_known_is_the_same_whoever_the_victims_are(setting: str, changes: list[str], data: Data) -> None:
    """The network above all: its weights and running statistics are those of the start, before any victim's batch."""
    known = []
    for seed in (0, 1):
        _, out = next(views_of(made(setting, *changes, f"fl_setting.victim_seed={seed}"), data))
        assert isinstance(out.truth, Images)
        known.append({n: checksum_of(getattr(out.known, n)) for n in out.known.granted() - {"labels", "loss"}})
        for name, value in out.known.model.state_dict().items() if "model" in out.known.granted() else ():
            assert torch.equal(value, out.seen.weights[name])  # type: ignore[union-attr]
    assert known[0] == known[1]


def test_candidates_tell_no_member(data: Data) -> None:
    spec = made("fedavg", "fl_setting.candidates=8")
    _, *membership = views_of(spec, data)
    assert len(membership) == 3
    for _, out in membership:
        assert isinstance(out.truth, Membership | Properties)
        true = out.truth.member if isinstance(out.truth, Membership) else out.truth.present
        assert not isinstance(out.seen, Update)
        for tensor in within([out.seen, out.known]):
            assert tensor.shape != true.shape or not torch.equal(tensor.bool(), true)
