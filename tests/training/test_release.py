"""Released models, trained all at once, are those of training one after the other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.stack import Stack
from privsweep.interface.data import Architecture, Domain, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.records import Schedule
from privsweep.interface.training import LocalSchedule, Optimizer, Training, labelled
from privsweep.model.blocks import Activation
from privsweep.model.convnet import ConvNet
from privsweep.model.mlp import MLP
from privsweep.store.fingerprint import checksum_of
from privsweep.training.fit import fit
from privsweep.training.full_batch import convolutional, dense, grouped, patched
from privsweep.training.full_batch import one_by_one as in_turn
from privsweep.training.full_batch.grouped import Grouped
from privsweep.training.full_batch.one_by_one import OneByOne
from privsweep.training.full_batch.patched import Patched
from privsweep.training.release import ReleaseTraining


@dataclass(frozen=True)
class Doubles(Domain):
    """Inputs in float64, so that differences are not rounding."""

    def inputs(self, pixels: Tensor) -> Tensor:
        return super().inputs(pixels.double())


@dataclass(frozen=True)
class InDoubles:
    architecture: Architecture

    def build(self, domain: Domain, rng: Rng) -> nn.Module:
        return self.architecture.build(domain, rng).double()


DOMAIN = Doubles((1, 8, 8), 4, (0.0,), (1.0,))
EPOCHS, FIXED, MODELS = 5, 300, 3
RNGS = [Rng(3).child("model", k) for k in range(MODELS)]


def records(count: int, seed: int) -> ImageSet:
    """Images whose first three columns are black, but for two pixels that only few sets have any of."""
    generator = Rng(seed).generator()
    images = torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator)
    images[..., :3] = 0
    if count < FIXED:
        images[::2, :, [0, 7], [0, 2]] = 77
    return ImageSet(images, torch.randint(0, 4, (count,), generator=generator))


def mlp(activation: Activation = "relu", depth: int = 2) -> InDoubles:
    return InDoubles(MLP(width=6, depth=depth, activation=activation, dropout=0.0, init="default", init_bound=0.5))


def cnn(norm: str = "none", pooling: str = "stride", size: int = 8) -> InDoubles:
    return InDoubles(
        ConvNet(
            width=size, layers=[1, 2], depth=2, kernel=3, pool_after=[1], pooling=pooling, padding="same", norm=norm,
            fc=[5], fc_width=None, activation="tanh", init="default", init_bound=0.5,
        )  # type: ignore[arg-type]
    )  # fmt: skip


def dp(bound: float | None, noise: float) -> Stack:
    private = DpSgd(
        max_grad_norm=bound, epsilon=None, noise_multiplier=noise, delta=1e-5, accountant="rdp", poisson=False
    )
    return Stack({"dp_sgd": private}).bind(Schedule(FIXED, FIXED, EPOCHS, 1, 1, 1.0))


def algorithm(architecture: Architecture, defense: Defense | None = None, **changes: Any) -> ReleaseTraining:
    made = ReleaseTraining(
        architecture, DOMAIN, records(FIXED, 1), defense or Stack({}), Optimizer("sgd", 0.2, 0.9), EPOCHS, None, 4.0
    )
    return replace(made, **changes)


def one_by_one(made: ReleaseTraining, own: ImageSet, present: Tensor, rngs: list[Rng]) -> dict[str, Tensor]:
    """The same models by the training of everything else, which divides by the records that there are.

    Where a defence bounds examples' gradients, the steps without an own record are the smaller for it.
    """
    out = []
    for k, rng in enumerate(rngs):
        net = made.defense.model(made.architecture.build(DOMAIN, rng.child("init")), rng.child("defense"))
        start = made.start or {name: w.clone() for name, w in net.state_dict().items()}
        pool = ImageSet(torch.cat((made.fixed.images, own.images[k : k + 1])),
                        torch.cat((made.fixed.labels, own.labels[k : k + 1])))  # fmt: skip
        index = [torch.arange(FIXED + int(present[k]))]
        one_divisor = made.defense.example_bound() != float("inf")
        share = (FIXED + int(present[k])) / (FIXED + 1) if one_divisor else 1.0
        plan = LocalSchedule(replace(made.rule, lr=share * made.rule.lr), made.epochs, None, FIXED + 1)
        training = Training(net, {name: w[None] for name, w in start.items()}, None, made.defense.loss(DOMAIN.loss),
                            labelled(pool, DOMAIN, index), plan, [rng])  # fmt: skip
        out.append({name: w[0] for name, w in fit(training, made.defense).weights.items()})
    return {name: torch.stack([weights[name] for weights in out]) for name in out[0]}


def distance(one: Tensors, other: Tensors) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


CLIPPING = 0.3  # below the norm of most gradients here


PLAIN, CLIPPED, NOISY = Stack({}), dp(CLIPPING, 0.0), dp(CLIPPING, 0.5)
NETWORKS = [mlp(), mlp("tanh"), mlp("sigmoid", 1), mlp(depth=0), cnn()]


@pytest.mark.parametrize(
    ("architecture", "defense"),
    [*product(NETWORKS, [PLAIN, CLIPPED, NOISY]), (cnn("batch"), PLAIN), (cnn("group"), CLIPPED)],
)
def test_models_are_those_of_training_one_by_one(architecture: InDoubles, defense: Stack) -> None:
    made, own, present = algorithm(architecture, defense), records(MODELS, 2), torch.tensor([True, False, True])
    assert distance(made(own, present, RNGS), one_by_one(made, own, present, RNGS)) < 1e-9


@pytest.mark.parametrize("defense", [PLAIN, CLIPPED])
@pytest.mark.parametrize("held", [2**12, 2**24])
@pytest.mark.parametrize("way", [Patched, Grouped])
@pytest.mark.parametrize("architecture", [cnn(), cnn(pooling="max"), cnn(size=2), mlp()])
def test_convolutional_networks_together_have_the_gradients_of_those_in_turn(
    architecture: InDoubles, way: type[Patched | Grouped], held: int, defense: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU and on a CPU: the sums are the same whatever is held at once."""
    monkeypatch.setattr(patched, "_HELD", held)
    monkeypatch.setattr(grouped, "_HELD", held)
    monkeypatch.setattr(grouped, "_MODELS", 2)
    task = algorithm(architecture, defense).task(records(MODELS, 2), torch.tensor([True, False, True]), RNGS)
    assert convolutional.fits(task.net, defense)
    together, alone = way(task), OneByOne(task)
    assert (together.size < FIXED) == (held == 2**12)
    for ours, theirs in zip(together.gradients(RNGS), alone.gradients(RNGS), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("architecture", [cnn("batch"), cnn("group"), mlp()])
def test_only_networks_of_plain_layers_are_taken_for_convolutional(architecture: InDoubles) -> None:
    net = architecture.build(DOMAIN, Rng(0))
    assert convolutional.fits(net, PLAIN) == (architecture == mlp())


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_activation_has_its_derivative(activation: Activation) -> None:
    made, own, present = algorithm(mlp(activation), CLIPPED), records(MODELS, 2), torch.ones(MODELS, dtype=torch.bool)
    assert dense.fits(mlp(activation).build(DOMAIN, Rng(0)), DOMAIN.loss, CLIPPED, own.labels)
    assert distance(made(own, present, RNGS), one_by_one(made, own, present, RNGS)) < 1e-9


@pytest.mark.parametrize("architecture", [mlp(), cnn()])
@pytest.mark.parametrize("rule", [Optimizer("sgd", 0.1, 0.5, 0.01, "cosine"), Optimizer("adam", 0.01, 0.0)])
def test_models_that_share_their_start_and_other_rules(architecture: InDoubles, rule: Optimizer) -> None:
    start = architecture.build(DOMAIN, Rng(9)).state_dict()
    made, own = algorithm(architecture, start=start, rule=rule), records(MODELS, 2)
    present = torch.ones(MODELS, dtype=torch.bool)
    trained = made(own, present, RNGS)
    assert distance(trained, one_by_one(made, own, present, RNGS)) < 1e-9
    assert not torch.equal(trained["output.bias"][0], trained["output.bias"][1])


@pytest.mark.parametrize("architecture", [mlp(), cnn()])
def test_a_model_depends_on_its_own_record_and_stream_alone(architecture: InDoubles) -> None:
    made, own, present = (
        algorithm(architecture, dp(CLIPPING, 0.5)),
        records(MODELS, 2),
        torch.tensor([True, False, True]),
    )
    alone = made(own.take(torch.tensor([2])), present[2:], RNGS[2:])
    together = made(own, present, RNGS)
    assert distance(alone, {name: w[2:] for name, w in together.items()}) < 1e-9


@pytest.mark.parametrize("architecture", [mlp(), cnn()])
def test_a_clip_and_noise_of_zero_is_plain_training(architecture: InDoubles) -> None:
    own, present = records(MODELS, 2), torch.ones(MODELS, dtype=torch.bool)
    plain = algorithm(architecture)(own, present, RNGS)
    assert distance(plain, algorithm(architecture, dp(None, 0.0))(own, present, RNGS)) < 1e-9
    assert distance(plain, algorithm(architecture, dp(1e9, 0.0))(own, present, RNGS)) < 1e-9
    assert distance(plain, algorithm(architecture, dp(CLIPPING, 0.0))(own, present, RNGS)) > 1e-3
    assert distance(plain, algorithm(architecture, dp(1e9, 1e-9))(own, present, RNGS)) > 1e-3


def test_a_record_that_is_absent_does_not_count() -> None:
    made, absent = algorithm(mlp()), torch.zeros(MODELS, dtype=torch.bool)
    assert distance(made(records(MODELS, 2), absent, RNGS), made(records(MODELS, 4), absent, RNGS)) == 0


def test_weights_are_handed_out_after_every_epoch() -> None:
    made, own, present = algorithm(mlp()), records(MODELS, 2), torch.ones(MODELS, dtype=torch.bool)
    seen: list[tuple[int, Tensors]] = []
    steps: list[tuple[int, int]] = []
    course = made.course(own, present, RNGS, lambda *done: steps.append(done), lambda n, w: seen.append((n, w)))
    assert steps == [(n, EPOCHS) for n in range(1, EPOCHS + 1)]
    assert [n for n, _ in seen] == list(range(1, EPOCHS + 1))
    assert list(course) == [EPOCHS]
    assert distance(seen[-1][1], course[EPOCHS]) == 0
    assert distance(seen[1][1], replace(made, epochs=2)(own, present, RNGS)) == 0


@pytest.mark.parametrize("architecture", [mlp(), cnn()])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_models_of_an_earlier_epoch_are_those_that_the_training_passes(
    architecture: InDoubles, schedule: Literal["constant", "cosine"]
) -> None:
    rule = Optimizer("sgd", 0.1, 0.9, 0.0, schedule)
    made, own = algorithm(architecture, rule=rule, checkpoints=(2, 3), last=2), records(MODELS, 2)
    present = torch.ones(MODELS, dtype=torch.bool)
    steps: list[tuple[int, int]] = []
    early, course = made(own, present, RNGS, lambda *done: steps.append(done)), made.course(own, present, RNGS)
    assert (made.released, made.whole.released) == (2, EPOCHS)
    assert steps == [(1, 2), (2, 2)]
    assert list(course) == [2, 3, EPOCHS]
    assert distance(early, course[2]) == 0
    assert distance(made.whole(own, present, RNGS), course[EPOCHS]) == 0
    assert distance(course[2], course[3]) > 1e-4


def test_defences_that_do_more_than_clip_are_heeded() -> None:
    class Halving(Defense):
        def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
            return {name: g / 2 for name, g in grads.items()}

    own, present = records(MODELS, 2), torch.ones(MODELS, dtype=torch.bool)
    halved = algorithm(mlp(), Stack({"halving": Halving()}))
    slow = replace(algorithm(mlp()), rule=Optimizer("sgd", 0.1, 0.9))
    assert halved.defense.example_bound() is None
    assert distance(halved(own, present, RNGS), slow(own, present, RNGS)) < 1e-9


@pytest.mark.parametrize("architecture", [mlp(depth=1), cnn(), cnn("group")])
def test_the_scale_of_the_noise_does_not_tell_whether_the_record_is_there(architecture: InDoubles) -> None:
    """Under the same draws and noise that drowns all gradients, models with a record move as far as those without.

    A divisor of 20 where it is 21 moves the weights by 5% more, which hundreds of them together give away.
    """
    few, rngs = records(20, 5), [Rng(7)] * 2
    start = architecture.build(DOMAIN, Rng(9)).state_dict()
    made = algorithm(architecture, dp(CLIPPING, 1e4), fixed=few, start=start)
    own, present = records(1, 6).take(torch.tensor([0, 0])), torch.tensor([True, False])
    for task in (made, replace(made, epochs=1)):
        moved = {name: w - start[name] for name, w in task(own, present, rngs).items()}
        for name, both in moved.items():
            torch.testing.assert_close(both[0], both[1], rtol=1e-2, atol=1e-2 * float(both.abs().max()), msg=name)


def test_undefended_models_divide_by_the_records_that_they_have() -> None:
    for defense, divisors in (
        (PLAIN, [FIXED + 1, FIXED]),
        (dp(None, 0.0), [FIXED + 1, FIXED]),
        (CLIPPED, [FIXED + 1, FIXED + 1]),
    ):
        present = torch.tensor([True, False])
        assert algorithm(mlp(), defense).task(records(2, 2), present, RNGS[:2]).divisors.tolist() == divisors


def test_two_clips_are_not_taken_for_one() -> None:
    once, twice = dp(CLIPPING, 0.0), Stack({"a": dp(CLIPPING, 0.0), "b": dp(CLIPPING, 0.0)})
    assert once.example_bound() == CLIPPING
    assert twice.example_bound() is None
    assert Stack({}).example_bound() == dp(None, 0.0).example_bound() == float("inf")


def test_an_algorithm_has_a_checksum_of_all_it_does() -> None:
    made = algorithm(mlp())
    others = [replace(made, epochs=6), replace(made, fixed=records(FIXED, 7)), replace(made, defense=dp(1.0, 0.0))]
    assert len({checksum_of(one) for one in [made, *others]}) == 4
    assert checksum_of(made) == checksum_of(algorithm(mlp())) == checksum_of(algorithm(mlp(), memory=1.0))


def test_as_many_models_train_together_as_memory_holds() -> None:
    cpu = torch.device("cpu")
    assert algorithm(mlp(), memory=1e-6).together(cpu) == 1
    assert 1 < algorithm(mlp(), memory=0.0005).together(cpu) < algorithm(mlp()).together(cpu)
    assert 1 < algorithm(cnn()).together(cpu) < algorithm(mlp()).together(cpu)


class Largest(TorchDispatchMode):
    """Notes the numbers of the largest tensor that is made inside."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not func.is_view:
            self.numbers = max(self.numbers, out.numel())
        return out


@pytest.mark.parametrize(("architecture", "defense"), [*product([NETWORKS[0], cnn()], [PLAIN, CLIPPED])])
def test_a_step_takes_no_more_memory_for_more_records(
    architecture: InDoubles, defense: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "_HELD", {"cpu": 2**12})
    monkeypatch.setattr(in_turn, "_HELD", {"cpu": 2**16})
    largest = []
    for count in (1500, 6000):
        made = algorithm(architecture, defense, fixed=records(count, 1))
        task = made.task(records(MODELS, 2), torch.ones(MODELS, dtype=torch.bool), RNGS)
        models = dense.Dense(task) if architecture is NETWORKS[0] else OneByOne(task)
        with Largest() as noted:
            models.gradients(RNGS)
        largest.append(noted.numbers)
    assert largest[0] == largest[1] < 1500 * 16 * 8
