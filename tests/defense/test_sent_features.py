"""What holds for the defences of what a client of collaborative inference sends, and what each of them is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from tiny import TINY, Bench

from privsweep.interface.data import Data
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Activations, Exposure, System
from privsweep.model.ensemble import Bodies, Selector
from privsweep.model.perturbation import FixedNoise, NoiseCollection
from privsweep.model.split_network import SplitNetwork
from privsweep.run.build import build
from privsweep.run.compose import compose, searching
from privsweep.run.run_spec import RunSpec
from privsweep.run.with_data import check_with_data

NAMES = ["dropout_ensemble", "dropout_single", "ensembler", "random_head", "shredder", "single_noise"]
OFF = {
    "single_noise": {"sigma": 0},
    "dropout_single": {"p": 0},
    "shredder": {"scale": 0, "magnitude": 0, "epochs": 0},
    "dropout_ensemble": {"networks": 1, "p": 0},
}


@pytest.fixture(autouse=True)
def _hydra() -> Iterator[None]:
    with searching(None):
        yield


def made(*overrides: str) -> RunSpec:
    given = ["fl_setting=collaborative_inference", "attack=shadow_inversion", "model=lenet", "fl_setting.victims=3"]
    settled = [*TINY, *given, "fl_setting.epochs=2", "fl_setting.augment=none"]
    swept = {o.partition("=")[0] for o in overrides}
    return build(compose([*(o for o in settled if o.partition("=")[0] not in swept), *overrides]))


def trained(spec: RunSpec, data: Data) -> tuple[System, SplitNetwork, Exposure]:
    defense = spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    system = spec.training_setting().train(data, spec.model, defense, Rng(0), Bench())
    net = spec.fl_setting.assembled(data.domain, spec.model, defense, Rng(0))
    assert isinstance(net, SplitNetwork)
    net.load_state_dict(dict(system.snapshots[system.last]))
    assert spec.view is not None
    return system, net.eval(), spec.view.expose(system, data, spec.model, defense, Rng(0))


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_and_what_is_sent_has_the_shape_that_the_server_expects(name: str, data: Data) -> None:
    system, net, out = trained(made(f"defense=[{name}]"), data)
    assert 0 <= system.utility["test_accuracy"] <= 1
    assert all(w.isfinite().all() for w in system.snapshots[system.last].values() if w.is_floating_point())
    assert isinstance(out.seen, Activations)
    assert out.seen.weights is None
    assert out.seen.z.shape == (3, 1, *net.sent)
    assert out.known.server_part(out.seen.z[:, 0]).isfinite().all()
    assert "model" not in out.known.granted()


@pytest.mark.parametrize("name", list(OFF))
def test_at_strength_zero_it_is_no_defence(name: str, data: Data) -> None:
    off = [f"defense.{name}.{key}={value}" for key, value in OFF[name].items()]
    _, _, plain = trained(made(), data)
    _, _, out = trained(made(f"defense=[{name}]", *off), data)
    if name == "dropout_ensemble":  # its one network starts from values of its own
        assert out.seen.z.shape == plain.seen.z.shape
        return
    assert torch.allclose(out.seen.z, plain.seen.z, atol=1e-6)
    assert "snr" not in out.measures


def test_fixed_noise_is_the_same_for_every_query_and_fresh_noise_is_not(data: Data) -> None:
    for draw, alike in (("fixed", True), ("fresh", False)):
        spec = made("defense=[single_noise]", f"defense.single_noise.draw={draw}", "fl_setting.access=black_box")
        _, net, out = trained(spec, data)
        x = data.domain.inputs_of(data.test, slice(0, 4))
        first, second = (out.known.query(x) if "query" in out.known.granted() else None for _ in range(2))
        assert first is not None
        assert torch.equal(first, second) is alike
        assert 0 < out.measures["snr"] < 60
    fixed = made("defense=[single_noise]", "defense.single_noise.sigma=2.0")
    _, net, _ = trained(fixed, data)
    [noise] = [layer for layer in net.head if isinstance(layer, FixedNoise)]
    assert 1.5 < noise.drawn.std() < 2.5


def test_dropout_stays_on_in_use(data: Data) -> None:
    _, _, out = trained(made("defense=[dropout_single]", "defense.dropout_single.p=0.9"), data)
    assert 0.8 < (out.seen.z == 0).float().mean() <= 1


def test_a_random_head_is_that_of_no_training_and_costs_accuracy(data: Data) -> None:
    longer = ["fl_setting.epochs=30", "fl_setting.batch_size=10", "fl_setting.optimizer=adam", "fl_setting.lr=0.01"]
    plain, _, _ = trained(made(*longer), data)
    random, net, _ = trained(made(*longer, "defense=[random_head]"), data)
    other, second, _ = trained(made(*longer, "defense=[random_head]", "defense.random_head.trained=true"), data)
    assert plain.utility["train_accuracy"] > 0.9
    assert random.utility["train_accuracy"] < 0.6
    assert other.utility["train_accuracy"] < plain.utility["train_accuracy"]
    for name, weight in plain.snapshots[30].items():
        same = torch.equal(weight, random.snapshots[30][name])
        assert same != name.startswith("head."), name
    assert not torch.equal(net.head[0].weight, second.head[0].weight)
    noisy = ["fl_setting.epochs=1", "defense=[single_noise,random_head]", "defense.random_head.trained=true"]
    (_, own, _), (_, swapped, _) = (trained(made(*given), data) for given in (["defense=[single_noise]"], noisy))
    first, other = own.head[-1].drawn, swapped.head[-1].drawn  # of the noise that both heads end with
    assert not torch.equal(first, other)
    assert torch.equal(first.flatten().sort().values, other.flatten().sort().values)


def test_shredder_learns_noise_alone(data: Data) -> None:
    plain, _, _ = trained(made(), data)
    system, net, out = trained(made("defense=[shredder]", "defense.shredder.multiplicative=true"), data)
    for name, weight in plain.snapshots[2].items():
        assert torch.equal(weight, system.snapshots[2][name]), name
    noise = net.head[-1]
    assert isinstance(noise, NoiseCollection)
    assert len(noise.noises) == 8
    assert out.measures["snr"] < 40
    louder = made("defense=[shredder]", "defense.shredder.magnitude=10", "defense.shredder.lr=0.5")
    assert trained(louder, data)[2].measures["snr"] < out.measures["snr"]


def test_ensembler_selects_in_secret_and_trains_head_and_tail_alone_in_the_second_stage(data: Data) -> None:
    """Its figure 4: N answers, N - P of them weighed zero, the others 1/P; stage two leaves the server's networks."""
    given = ["defense=[ensembler]", "defense.ensembler.networks=3", "defense.ensembler.selected=2"]
    system, net, out = trained(made(*given), data)
    assert isinstance(net.body, Bodies)
    [selector] = [layer for layer in net.tail if isinstance(layer, Selector)]
    assert sorted(selector.activation.tolist()) == [0.0, 0.5, 0.5]
    answers = net.body(out.seen.z[:, 0])
    weighed = selector(answers).unflatten(1, (3, -1))
    unused = selector.activation == 0
    assert not weighed[:, unused].any()
    assert torch.allclose(weighed[:, ~unused], answers.unflatten(1, (3, -1))[:, ~unused] / 2)

    longer, _, _ = trained(made(*given, "defense.ensembler.second_epochs=4"), data)
    for name, weight in system.snapshots[2].items():
        assert torch.equal(weight, longer.snapshots[2][name]) == (not name.startswith(("head.", "tail.output"))) or (
            name.endswith(("drawn", "num_batches_tracked"))
        ), name
    first, second = (net.body.nets[i].state_dict() for i in (0, 1))
    assert not any(torch.equal(first[name], second[name]) for name in first if name.endswith("weight"))
    for handed in (out.seen, out.known.server_part):
        assert not any(t is selector.activation for t in vars(handed).values())


def test_the_selector_depends_on_the_seed_alone(data: Data) -> None:
    def chosen(seed: int, *overrides: str) -> list[float]:
        given = ["defense=[ensembler]", "defense.ensembler.networks=6", "defense.ensembler.selected=3", *overrides]
        net = made(*given).fl_setting.assembled(data.domain, made().model, made(*given).defense, Rng(seed))
        [selector] = [layer for layer in net.tail if isinstance(layer, Selector)]  # type: ignore[union-attr]
        return list(selector.activation.tolist())

    assert chosen(0) == chosen(0, "defense.ensembler.sigma=0.7")
    assert len({tuple(chosen(seed)) for seed in range(6)}) > 1


def test_a_second_stage_that_keeps_away_from_the_first_heads(data: Data) -> None:
    """The regulariser lowers the largest similarity to a selected network's first head (equation 3)."""
    given = [
        "defense=[ensembler]",
        "defense.ensembler.networks=2",
        "defense.ensembler.selected=1",
        "fl_setting.epochs=8",
    ]
    free, _, _ = trained(made(*given, "defense.ensembler.regularisation=0"), data)
    kept, _, _ = trained(made(*given, "defense.ensembler.regularisation=20"), data)
    assert any(not torch.equal(w, kept.snapshots[8][n]) for n, w in free.snapshots[8].items() if n.startswith("head."))
    assert free.utility["train_accuracy"] >= kept.utility["train_accuracy"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["fl_setting.first_split=conv9"], "fl_setting.first_split=conv9: the model has no layer of that name"),
        (["fl_setting.first_split=9"], "fl_setting.first_split=9: the model has 5 layers that count"),
        (["fl_setting.first_split=fc1", "fl_setting.second_split=fc1"], "would have nothing to learn"),
        (["fl_setting.first_split=4", "fl_setting.second_split=4"], "would have nothing to learn"),
        (["defense=[ensembler]", "defense.ensembler.networks=2", "defense.ensembler.selected=3"], "take 2 or fewer"),
        (["defense=[ensembler]", "fl_setting.second_split=flatten"], "take fl_setting.second_split=1"),
        (["defense=[ensembler,shredder]"], "each train in stages of their own"),
        (["fl_setting.victims=9999"], "take fewer victims"),
        (["fl_setting.selector_known=true", "attack.strategy=selected"], "the client selects nothing"),
    ],
)
def test_bad_input_is_one_line_with_a_remedy(overrides: list[str], message: str, data: Data) -> None:
    with pytest.raises(UserError) as error:
        planned(made, overrides, data)
    assert len(str(error.value).splitlines()) == 1
    assert message in str(error.value)


def test_without_a_client_there_is_nothing_to_defend(data: Data) -> None:
    def federated(*overrides: str) -> RunSpec:
        return build(compose([*TINY, "attack=blind", "fl_setting=fedavg", *overrides]))

    with pytest.raises(UserError, match="take fl_setting=collaborative_inference"):
        planned(federated, ["defense=[single_noise]"], data)


def planned(make: Callable[..., RunSpec], overrides: list[str], data: Data) -> None:
    """Whatever is checked before any work."""
    spec = make(*overrides)
    spec.defense.bind(spec.fl_setting.schedule(data, Rng(0)))
    check_with_data(spec, data, None, Rng(0))
