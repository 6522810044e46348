"""Steps of training rounded to eight bits: the same training to rounding, and nothing that is seen is rounded."""

from collections.abc import Iterator

import pytest
import torch
from torch.nn.functional import cross_entropy

from privsweep.defense.dp_sgd import DpSgd
from privsweep.defense.noisy_gradients import NoisyGradients
from privsweep.interface.data import Data
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.interface.rounding import precision_on, round_products
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled
from privsweep.model.convnet import ConvNet
from privsweep.training.fit import Fitted, fit
from privsweep.training.local import gradient, weights_of
from privsweep.training.stacked import Parallel

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = precision_on(CPU)
    yield
    round_products(before)


def trained(data: Data, lenet: ConvNet, precision: str, defense: Defense, parallel: Parallel = "sequential") -> Fitted:
    net = lenet.build(data.domain, Rng(0))
    examples = labelled(data.train, data.domain, [torch.arange(30), torch.arange(30, 60)])
    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.9), epochs=3, steps=None, batch_size=8)
    start, rngs = alike(weights_of(net), 2), [Rng(1), Rng(2)]
    round_products(precision)  # type: ignore[arg-type]
    return fit(Training(net, start, None, cross_entropy, examples, schedule, rngs), defense, parallel=parallel)


def apart(a: Fitted, b: Fitted) -> float:
    return max((a.weights[name] - b.weights[name]).abs().max().item() for name in a.weights)


@pytest.mark.parametrize("parallel", ["sequential", "stacked", "abreast"])
@pytest.mark.parametrize("defense", [Defense(), NoisyGradients(sigma=1e-3, distribution="gaussian")])
def test_weights_stay_in_float32_and_move_nearly_alike(
    data: Data, lenet: ConvNet, defense: Defense, parallel: Parallel
) -> None:
    exact, rounded = (trained(data, lenet, p, defense, parallel) for p in ("float32", "bfloat16"))
    assert all(w.dtype == torch.float32 for w in rounded.weights.values() if w.is_floating_point())
    start = weights_of(lenet.build(data.domain, Rng(0)))
    moved = max((w - start[name]).abs().max().item() for name, w in exact.weights.items())
    assert 0 < apart(exact, rounded) < 0.1 * moved
    assert torch.allclose(exact.losses, rounded.losses, atol=0.01)


def test_gradients_that_are_clipped_one_by_one_are_not_rounded(data: Data, lenet: ConvNet) -> None:
    private = DpSgd(max_grad_norm=1.0, epsilon=None, noise_multiplier=1.0, delta=0.1, accountant="rdp", poisson=True)
    exact, rounded = (trained(data, lenet, p, private) for p in ("float32", "bfloat16"))
    assert apart(exact, rounded) == 0


def test_nor_is_one_that_somebody_sees(data: Data, lenet: ConvNet) -> None:
    net, own = lenet.build(data.domain, Rng(0)), data.train.take(torch.arange(8))
    x = data.domain.inputs(own.pixels(slice(0, 8)))
    seen = []
    for precision in ("float32", "bfloat16"):
        round_products(precision)  # type: ignore[arg-type]
        seen.append(gradient(net, cross_entropy, x, own.labels, Defense(), Rng(0))[0])
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in seen[0])
    rounded, _ = gradient(net, cross_entropy, x, own.labels, Defense(), Rng(0), unseen=True)
    assert any(not torch.equal(seen[0][name], g) for name, g in rounded.items())
