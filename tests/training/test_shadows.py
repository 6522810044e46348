"""Shadow models: each as if it were trained alone."""

import pytest
import torch
from tiny import Bench
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from privsweep.defense.stack import Stack
from privsweep.interface.data import Architecture, Data, Domain, ImageSet
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled
from privsweep.model.convnet import ConvNet
from privsweep.model.dropout import Dropout
from privsweep.model.mlp import MLP
from privsweep.training.augmentation import crop_flip
from privsweep.training.fit import fit
from privsweep.training.shadows import ShadowModel, answers, train_shadows

ADAM, SGD = Optimizer("adam", 0.01, 0.0), Optimizer("sgd", 0.1, 0.9)
PLAN = LocalSchedule(ADAM, epochs=2, steps=None, batch_size=8)


def mlp(dropout: float = 0.2, activation: str = "relu") -> MLP:
    return MLP(width=12, depth=2, activation=activation, dropout=dropout, init="default", init_bound=0.5)  # type: ignore[arg-type]


def convnet(norm: str = "none") -> ConvNet:
    return ConvNet(
        width=4, layers=[1], depth=2, kernel=3, pool_after=[1], pooling="max", norm=norm, fc=[], fc_width=None,
        padding="same", activation="relu", init="default", init_bound=0.5,
    )  # fmt: skip


class Precise:
    """An architecture and a domain in float64, so that only the order of sums is left to differ."""

    def __init__(self, architecture: Architecture, domain: Domain):
        self.architecture, self.domain, self.shape = architecture, domain, domain.shape

    def build(self, domain: "Precise", rng: Rng) -> nn.Sequential:
        return self.architecture.build(self.domain, rng).double()

    def inputs_of(self, examples: ImageSet, index: Tensor | slice = slice(None)) -> Tensor:
        return self.domain.inputs(examples.pixels(index).double())


def index(shadows: int, of: int, size: int) -> Tensor:
    return torch.stack([Rng(0).child("records", k).permutation(of)[:size] for k in range(shadows)])


@pytest.mark.parametrize(
    ("architecture", "rule"),
    [(mlp(), ADAM), (mlp(0.0, "tanh"), SGD), (convnet(), ADAM), (convnet("group"), SGD)],
)
def test_stacked_shadows_train_as_alone(data: Data, architecture: Architecture, rule: Optimizer) -> None:
    """Twenty records in batches of eight, so that the last batch is smaller; dropout draws in every step."""
    schedule = LocalSchedule(rule, epochs=2, steps=None, batch_size=8)
    precise = Precise(architecture, data.domain)
    rows, rngs = index(3, 60, 20), [Rng(0).child("shadow", k) for k in range(3)]
    nets = [precise.build(precise, r.child("init")) for r in rngs]  # type: ignore[arg-type]
    states = [net.state_dict() for net in nets]
    start = {name: torch.stack([s[name] for s in states]) for name in states[0]}
    pool = labelled(data.train, precise, list(rows))  # type: ignore[arg-type]
    stack = fit(Training(nets[0], start, None, cross_entropy, pool, schedule, rngs), parallel="stacked").weights
    for k, net in enumerate(nets):
        own = labelled(data.train, precise, [rows[k]])  # type: ignore[arg-type]
        alone = Training(net, alike(net.state_dict(), 1), None, cross_entropy, own, schedule, [rngs[k]])
        for name, weight in fit(alone, Stack({})).weights.items():
            assert torch.allclose(stack[name][k], weight[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("architecture", [mlp(), convnet("batch")])
def test_a_shadow_does_not_depend_on_the_others(data: Data, architecture: Architecture) -> None:
    """Memory for all at once, or for one: batch normalisation always trains alone."""
    precise = Precise(architecture, data.domain)
    rows = index(3, 60, 20)

    def trained(memory: float) -> dict[str, Tensor]:
        return train_shadows(ShadowModel(precise), data.train, rows, precise, PLAN, Rng(0), Bench(), memory)  # type: ignore[arg-type]

    together, alone = trained(1.0), trained(1e-9)
    assert all(torch.allclose(together[n].double(), alone[n].double(), rtol=1e-9, atol=1e-10) for n in alone)
    first = next(iter(alone.values()))
    assert not torch.equal(first[0], first[1])
    if isinstance(architecture, ConvNet):
        assert together["norm1.num_batches_tracked"].tolist() == [6, 6, 6]


def test_shadows_are_augmented_where_the_target_is(data: Data) -> None:
    rows, rngs = index(2, 60, 20), [Rng(0).child("shadow", k) for k in range(2)]
    given = (ShadowModel(mlp()), data.train, rows, data.domain, PLAN, Rng(0), Bench(), 1.0)
    states = [mlp().build(data.domain, r.child("init")).state_dict() for r in rngs]
    start = {name: torch.stack([s[name] for s in states]) for name in states[0]}
    for augment, change in (("none", None), ("crop_flip", crop_flip)):
        examples = labelled(data.train, data.domain, list(rows), change)
        training = Training(mlp().build(data.domain, Rng(0)), start, None, cross_entropy, examples, PLAN, rngs)
        shadows = train_shadows(*given, augment)  # type: ignore[arg-type]
        assert all(torch.allclose(w, shadows[name], atol=1e-6) for name, w in fit(training).weights.items())


def test_answers_are_those_of_every_shadow_in_evaluation(data: Data) -> None:
    nets = [mlp().build(data.domain, Rng(k)) for k in range(2)]
    weights = {n: torch.stack([net.state_dict()[n] for net in nets]) for n in nets[0].state_dict()}
    given = answers(ShadowModel(mlp()), weights, data.test, data.domain, Rng(0))
    for net, own in zip(nets, given, strict=True):
        assert torch.allclose(own, net.eval()(data.domain.inputs(data.test.pixels())).softmax(1), atol=1e-6)


def test_dropout_drops_in_training_only_and_keeps_the_mean() -> None:
    layer, x = Dropout(50, 0.2), torch.ones(400, 50)
    noise = {"noise": torch.randn(400, 50, generator=Rng(0).generator())}
    dropped = torch.func.functional_call(layer.train(), noise, (x,))
    assert abs(dropped.mean() - 1) < 0.02
    assert abs((dropped == 0).double().mean() - 0.2) < 0.02
    assert torch.equal(layer(x), x)
    assert torch.equal(torch.func.functional_call(layer.eval(), noise, (x,)), x)


def test_a_perceptron_has_dropout_only_where_it_is_asked_for(data: Data) -> None:
    names = [[n for n, _ in mlp(p).build(data.domain, Rng(0)).named_children()] for p in (0.0, 0.2)]
    assert names[0] == [n for n in names[1] if "drop" not in n]
    assert names[1][1:4] == ["fc1", "fcact1", "fcdrop1"]
