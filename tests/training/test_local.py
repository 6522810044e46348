import pytest
import torch
from torch.nn.functional import cross_entropy

from privsweep.defense.stack import Stack
from privsweep.interface.data import Data, ImageSet, Tensors
from privsweep.interface.defense import Defense
from privsweep.interface.randomness import Rng
from privsweep.model.convnet import ConvNet
from privsweep.training.local import LocalSchedule, batches_of, choose, train, train_in_turn, train_stacked, weights_of
from privsweep.training.optimizer import Optimizer


@pytest.mark.parametrize("rule", [Optimizer("adam", 0.01, 0.0), Optimizer("sgd", 0.1, 0.9)])
def test_stacked_clients_train_as_in_turn(data: Data, lenet: ConvNet, rule: Optimizer) -> None:
    """Clients of unequal size, so that padded examples and paused clients take part."""
    net = lenet.build(data.domain, Rng(0)).double()
    start = weights_of(net)
    owns = [data.train.take(torch.arange(a, b)) for a, b in [(0, 20), (20, 33), (33, 60)]]
    rngs = [Rng(0).child("client", k) for k in range(3)]
    schedule = LocalSchedule(rule, epochs=2, steps=None, batch_size=8)
    domain = _Double(data)
    turn, loss_turn = train_in_turn(net, start, owns, domain, schedule, cross_entropy, Stack({}), rngs)  # type: ignore[arg-type]
    stack, loss_stack = train_stacked(net, start, owns, domain, schedule, cross_entropy, Stack({}), rngs)  # type: ignore[arg-type]
    for a, b in zip(turn, stack, strict=True):
        assert all(torch.allclose(a[n], b[n], rtol=1e-9, atol=1e-10) for n in a)
    assert torch.allclose(loss_turn.double(), loss_stack.double(), atol=1e-5)


class _Double:
    """The domain in float64, so that only the order of sums is left to differ."""

    def __init__(self, data: Data):
        self.domain = data.domain

    def inputs_of(self, examples: ImageSet, index: torch.Tensor) -> torch.Tensor:
        return self.domain.inputs(examples.pixels(index).double())


def test_a_plan_counts_steps_over_epochs() -> None:
    rule = Optimizer("sgd", 0.1, 0.0)
    assert [len(b) for b in LocalSchedule(rule, 2, None, 4).batches(10, Rng(0))] == [4, 4, 2] * 2
    assert [len(b) for b in LocalSchedule(rule, 1, 5, 4).batches(10, Rng(0))] == [4, 4, 2, 4, 4]
    first, second = list(LocalSchedule(rule, 2, None, 10).batches(10, Rng(0)))
    assert not torch.equal(first, second)


def test_models_with_running_statistics_train_in_turn() -> None:
    cuda = torch.device("cuda")
    assert choose("auto", torch.nn.Linear(2, 2), cuda)
    assert not choose("auto", torch.nn.Linear(2, 2), torch.device("cpu"))
    assert not choose("stacked", torch.nn.BatchNorm1d(2), cuda)


def test_a_step_without_examples_moves_nothing_and_counts_for_no_loss(data: Data, lenet: ConvNet) -> None:
    class Sparing(Defense):
        def sample(self, examples: int, batch_size: int, rng: Rng) -> torch.Tensor:
            return torch.arange(batch_size if rng.path[-1] == 1 else 0)

    net = lenet.build(data.domain, Rng(0))
    start, own = weights_of(net), data.train.take(torch.arange(8))
    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.0), epochs=2, steps=None, batch_size=4)
    loss = train(net, own, data.domain, schedule, cross_entropy, Sparing(), Rng(0))
    after = weights_of(net)
    net.load_state_dict(start)
    value = cross_entropy(net(data.domain.inputs(own.pixels(slice(0, 4)))), own.labels[:4])
    grads = torch.autograd.grad(value, list(net.parameters()))
    assert loss.item() == pytest.approx(value.item(), rel=1e-5)
    for (name, p), g in zip(net.named_parameters(), grads, strict=True):
        assert torch.allclose(after[name], p - 0.1 * g, atol=1e-6)


def test_a_drawn_batch_is_divided_by_its_expected_size() -> None:
    class Drawing(Defense):
        def sample(self, examples: int, batch_size: int, rng: Rng) -> torch.Tensor:
            return torch.arange(3)

    schedule = LocalSchedule(Optimizer("sgd", 0.1, 0.0), epochs=1, steps=2, batch_size=8)
    assert [(len(b), expected) for b, expected in batches_of(schedule, 20, Drawing(), Rng(0))] == [(3, 8), (3, 8)]
    assert [expected for _, expected in batches_of(schedule, 5, Drawing(), Rng(0))] == [5, 5]
    assert [(len(b), expected) for b, expected in batches_of(schedule, 10, Defense(), Rng(0))] == [(8, 8), (2, 2)]


def test_clients_with_a_gradient_an_example_train_in_turn() -> None:
    class Clipping(Defense):
        def example_gradients(self, grads: Tensors, rng: Rng) -> Tensors:
            return grads

    assert not choose("stacked", torch.nn.Linear(2, 2), torch.device("cuda"), Clipping())
