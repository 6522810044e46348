import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from privsweep.interface.data import Data
from privsweep.interface.defense import Defense
from privsweep.interface.errors import UserError
from privsweep.interface.randomness import Rng
from privsweep.interface.training import LocalSchedule, Optimizer, Training, alike, labelled, replica
from privsweep.model.convnet import ConvNet
from privsweep.training.fit import fit
from privsweep.training.local import batches_of, weights_of
from privsweep.training.per_example import example_gradients

CPU = torch.device("cpu")


def test_a_plan_counts_steps_over_epochs() -> None:
    rule = Optimizer("sgd", 0.1, 0.0)
    assert [len(b) for b in LocalSchedule(rule, 2, None, 4).batches(10, Rng(0))] == [4, 4, 2] * 2
    assert [len(b) for b in LocalSchedule(rule, 1, 5, 4).batches(10, Rng(0))] == [4, 4, 2, 4, 4]
    first, second = list(LocalSchedule(rule, 2, None, 10).batches(10, Rng(0)))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("examples", [3, 8, 9, 12])
@pytest.mark.parametrize("steps", [None, 0, 1, 2, 3, 7])
def test_its_sizes_are_those_of_its_batches(examples: int, steps: int | None) -> None:
    plan = LocalSchedule(Optimizer("sgd", 0.1, 0.0), 2, steps, 4)
    assert sorted(plan.sizes(examples)) == sorted({len(b) for b in plan.batches(examples, Rng(0))})


def test_a_step_without_examples_moves_nothing_and_counts_for_no_loss(data: Data, lenet: ConvNet) -> None:
    class Sparing(Defense):
        def sample(self, examples: int, batch_size: int, rng: Rng) -> torch.Tensor:
            return torch.arange(batch_size if rng.path[-1] == 1 else 0)

    net = lenet.build(data.domain, Rng(0))
    start, own = weights_of(net), data.train.take(torch.arange(8))
    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.0), epochs=2, steps=None, batch_size=4)
    given = labelled(data.train, data.domain, [torch.arange(8)])
    fitted = fit(Training(net, alike(start, 1), None, cross_entropy, given, schedule, [Rng(0)]), Sparing())
    after = replica(fitted.weights, 0)
    net.load_state_dict(start)
    value = cross_entropy(net(data.domain.inputs(own.pixels(slice(0, 4)))), own.labels[:4])
    grads = torch.autograd.grad(value, list(net.parameters()))
    assert fitted.losses.item() == pytest.approx(value.item(), rel=1e-5)
    for (name, p), g in zip(net.named_parameters(), grads, strict=True):
        assert torch.allclose(after[name], p - 0.1 * g, atol=1e-6)


def test_a_drawn_batch_is_divided_by_its_expected_size() -> None:
    class Drawing(Defense):
        def sample(self, examples: int, batch_size: int, rng: Rng) -> torch.Tensor:
            return torch.arange(3)

    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.0), epochs=1, steps=2, batch_size=8)
    assert [(len(b), expected) for b, expected in batches_of(schedule, 20, Drawing(), Rng(0), CPU)] == [(3, 8), (3, 8)]
    assert [expected for _, expected in batches_of(schedule, 5, Drawing(), Rng(0), CPU)] == [5, 5]
    assert [(len(b), expected) for b, expected in batches_of(schedule, 10, Defense(), Rng(0), CPU)] == [(8, 8), (2, 2)]


class Counting(nn.Linear):
    """Keeps count of its batches, and has a factor that is a single number."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.gain = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("batches", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.batches += 1
        return self.gain * super().forward(x)


def test_a_network_that_writes_into_a_buffer_has_no_gradients_of_single_examples() -> None:
    net, x, y = Counting(), torch.rand(4, 3), torch.tensor([0, 1, 1, 0])
    with pytest.raises(UserError, match="writes into its buffer batches while it trains"):
        example_gradients(net, cross_entropy, x, y, {})
    grads, _ = example_gradients(net.eval(), cross_entropy, x, y, {})
    assert grads["gain"].shape == (4,)
