"""A layer that its model's builder froze stays as it is, to the last bit, in every setting and way of training."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from math import prod

import pytest
import torch
from tiny import Bench, capture, fedavg
from torch import nn

from privsweep.defense.stack import Stack
from privsweep.interface.data import Architecture, Data, Domain
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng, seeded
from privsweep.interface.records import System
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.with_data import check_with_data
from privsweep.training.fit import fit
from privsweep.training.frozen import moving, unfrozen
from privsweep.training.local import weights_of
from privsweep.training.stacked import Parallel


@dataclass(frozen=True)
class Frozen:
    """Three dense layers, of which those named are frozen."""

    layers: tuple[str, ...]

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        with seeded(rng):
            hidden, middle, output = (nn.Linear(prod(domain.shape), 6), nn.Linear(6, 6), nn.Linear(6, domain.classes))
        layers = {"flatten": nn.Flatten(), "hidden": hidden, "act": nn.Tanh(), "middle": middle, "output": output}
        net = nn.Sequential(OrderedDict(layers))
        for name in self.layers:
            net.get_submodule(name).requires_grad_(False)
        return net


SETTINGS = {
    "fedavg": "fl_setting=fedavg fl_setting.rounds=2 fl_setting.local_epochs=1",
    "fedsgd": "fl_setting=fedsgd fl_setting.rounds=2",
    "central": "fl_setting=central fl_setting.epochs=2",
    "split": "fl_setting=split fl_setting.cut=act fl_setting.rounds=2 fl_setting.local_epochs=1",
    "release": "fl_setting=release fl_setting.epochs=2 fl_setting.without=1 fl_setting.victims=2",
    "collaborative_inference": "fl_setting=collaborative_inference fl_setting.epochs=2 fl_setting.first_split=act "
    "fl_setting.second_split=output",
}
EVERYWHERE = ["", "noisy_gradients", "dp_sgd"]
OF_UPDATES = ["central_dp", "secure_aggregation", "gradient_pruning"]


def trained(setting: str, defense: str, layers: tuple[str, ...], data: Data) -> System:
    given = [*SETTINGS[setting].split(), f"defense=[{defense}]", "attack=none", "fl_setting.lr=0.1"]
    if defense == "dp_sgd":
        given += ["defense.dp_sgd.poisson=false"]
    with searching(None):
        spec = build(compose(given))
    bound = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    return spec.fl_setting.train(data, Frozen(layers), bound, Rng(0), Bench())  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", ["hidden", "output"])
@pytest.mark.parametrize(
    ("setting", "defense"),
    [(s, d) for s in SETTINGS for d in EVERYWHERE] + [(s, d) for s in ("fedavg", "fedsgd") for d in OF_UPDATES],
)
def test_a_frozen_layer_stays_and_the_others_learn(setting: str, defense: str, layer: str, data: Data) -> None:
    """Neither training nor averaging moves it, nor a defence's noise; in split learning it may be a whole part."""
    system = trained(setting, defense, (layer,), data)
    before, after = system.snapshots[0], system.snapshots[system.last]
    same = {name: bool((after[name] == w).all()) for name, w in before.items()}
    frozen = {name for name in same if name.startswith(layer) or f".{layer}." in name}
    assert len(frozen) == 2
    assert {name for name, kept in same.items() if kept} == frozen


@pytest.mark.parametrize("layer", ["hidden", "output"])
def test_replicas_train_alike_in_every_way(layer: str, data: Data) -> None:
    net = Frozen((layer,)).build(data.domain, Rng(0))
    start, index = weights_of(net), [torch.arange(k, 60, 3) for k in range(3)]
    schedule, rngs = LocalSchedule(Optimizer("adam", 0.01, 0.0), 2, None, 8), [Rng(k) for k in range(3)]
    ways: tuple[Parallel, ...] = ("sequential", "stacked", "abreast")
    found = []
    for way in ways:
        examples = labelled(data.train, data.domain, index)
        given = Training(net, alike(start, 3), None, data.domain.loss, examples, schedule, rngs)
        found.append(fit(given, parallel=way).weights)
    for name, weights in found[0].items():
        assert all(torch.allclose(other[name], weights, atol=1e-6) for other in found[1:])
        assert torch.equal(weights, start[name].expand_as(weights)) == name.startswith(layer)


@pytest.mark.parametrize("what", ["gradient", "difference"])
def test_what_is_frozen_is_not_sent(what: str, data: Data) -> None:
    setting, model = fedavg(rounds=0, capture=capture(what=what), optimizer="sgd"), Frozen(("hidden",))
    system = setting.train(data, model, Stack({}), Rng(0), Bench())  # type: ignore[arg-type]
    seen = setting.views()[0].expose(system, data, model, Stack({}), Rng(0)).seen  # type: ignore[arg-type]
    assert list(seen.delta) == ["middle.weight", "middle.bias", "output.weight", "output.bias"]  # type: ignore[union-attr]


@dataclass(frozen=True)
class FrozenStatistics:
    """Dense layers around a batch normalisation that is frozen, with statistics of an earlier training."""

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        with seeded(rng):
            hidden, output = nn.Linear(prod(domain.shape), 6), nn.Linear(6, domain.classes)
            norm = nn.BatchNorm1d(6).requires_grad_(False)
            norm.load_state_dict({**norm.state_dict(), "running_mean": torch.ones(6), "running_var": 4 * torch.ones(6)})
        layers = {"flatten": nn.Flatten(), "hidden": hidden, "norm": norm, "act": nn.Tanh(), "output": output}
        return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize("batch", [1, 4])
def test_a_capture_is_computed_as_the_client_trains(batch: int, data: Data) -> None:
    """By the statistics that stay as they are, which a single image has too; the attack's network computes so as well.

    One step of SGD as a weight difference is the gradient times the rate.
    """
    seen = {}
    for what in ("gradient", "difference"):
        captured = capture(what=what, batch_size=batch)
        setting = fedavg(rounds=0, local_epochs=1, optimizer="sgd", lr=0.5, capture=captured, batch_size=batch)
        model: Architecture = FrozenStatistics()
        for part in (setting, view := setting.views()[0]):
            part.check(data, model, Stack({}), Rng(0))
        system = setting.train(data, model, Stack({}), Rng(0), Bench())
        out = view.expose(system, data, model, Stack({}), Rng(0))
        seen[what] = out.seen.delta  # type: ignore[union-attr]
        assert not out.known.model.get_submodule("norm").training
        assert out.known.model.training
    for name, g in seen["gradient"].items():
        assert torch.allclose(seen["difference"][name], -0.5 * g, atol=1e-6)


def test_a_stage_of_a_defence_does_not_thaw_a_layer(data: Data) -> None:
    net = Frozen(("hidden",)).build(data.domain, Rng(0))
    assert moving(net, ["hidden", "middle", "output"]) == moving(net, lambda name: True) == unfrozen(net)
    with pytest.raises(ValueError, match="no parameter is left to train"):
        moving(net, ["hidden"])


def test_a_model_that_is_frozen_as_a_whole_is_refused(data: Data) -> None:
    with searching(None):
        spec = build(compose(["attack=none"]))
    still = replace(spec, model=Frozen(("hidden", "middle", "output")))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"model=\w+: all its parameters are frozen"):
        check_with_data(still, data, None, Rng(0))
